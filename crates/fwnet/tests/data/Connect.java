import java.net.InetSocketAddress;
import java.net.Socket;

/** Connects to ADDRESS PORT; an error ends it with its own words. */
public class Connect {
    public static void main(String[] arguments) throws Exception {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1])), 20000);
        }
    }
}
