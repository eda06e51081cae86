"""Resolves a name and fetches a page, again and again until its input ends, then says how often: traffic.py SERVER"""
import http.client, json, select, socket, sys, time

server = sys.argv[1]
counts = {"names": 0, "pages": 0, "failures": 0, "first_failure": None}
question = b"\x03www\x07example\x00\x00\x01\x00\x01"


def resolve(number):
    ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ask.settimeout(5)
    with ask:
        ident = number.to_bytes(2, "big")
        ask.sendto(ident + b"\x01\x00\x00\x01" + b"\x00" * 6 + question, (server, 53))
        answer = ask.recv(512)
        if answer[:2] != ident or answer[6:8] != b"\x00\x01":
            raise OSError("not the answer to this question")
        return socket.inet_ntoa(answer[-4:])


def fetch(address):
    page = http.client.HTTPConnection(address, 80, timeout=5)
    page.request("GET", "/")
    if page.getresponse().status != 200:
        raise OSError("the page is not there")
    page.close()


number = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    number = (number + 1) % 65536
    try:
        address = resolve(number)
        counts["names"] += 1
        fetch(address)
        counts["pages"] += 1
    except (OSError, http.client.HTTPException) as error:
        counts["failures"] += 1
        counts["first_failure"] = counts["first_failure"] or f"{time.strftime('%T')} {error!r}"
    if number == 1:
        print("going", flush=True)
print(json.dumps(counts), flush=True)
