//! Every way in and out as a list, and tcpserv and tcpcli.
