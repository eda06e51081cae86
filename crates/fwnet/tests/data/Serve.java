import java.net.InetAddress;
import java.net.ServerSocket;

/** Listens on ADDRESS PORT and prints who comes. */
public class Serve {
    public static void main(String[] arguments) throws Exception {
        InetAddress address = InetAddress.getByName(arguments[0]);
        try (ServerSocket server = new ServerSocket(Integer.parseInt(arguments[1]), 5, address)) {
            System.out.println("ready");
            while (true) {
                System.out.println("from " + server.accept().getInetAddress().getHostAddress());
            }
        }
    }
}
