/* A 32-bit program without a library. Its argument has two digits: how to connect (1: socketcall(102), 2: connect(362)) and
   the last byte of the address 127.0.0.N; the port is 20000. Exits with the errno, 0 for a connection. */

static int call(int number, int a, const void *b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

__attribute__((used)) static int run(char **argv)
{
    unsigned char address[16] = {2, 0, 20000 >> 8, 20000 & 255, 127, 0, 0, argv[1][1] - '0'};
    int make[3] = {2, 1, 0};
    int fd = call(102, 1, make, 0);
    int connect[3] = {fd, (int)address, sizeof address};
    if (fd < 0)
        return 255;
    return -(argv[1][0] == '1' ? call(102, 3, connect, 0) : call(362, fd, address, sizeof address));
}

__asm__(".globl _start\n"
        "_start:\n"
        "    leal 4(%esp), %eax\n"
        "    pushl %eax\n"
        "    call run\n"
        "    movl %eax, %ebx\n"
        "    movl $1, %eax\n"
        "    int $0x80\n");
