#!/usr/bin/perl
# security WHAT ...: what the scene of the security hooks tries, each printing what came of it: `ok`, or the name of the
# error.
use strict;
use warnings;
use Errno;
use IO::Socket::INET;
use Socket qw(:all);

$| = 1;
my $BPF = 321;    # bpf(2) on x86_64
my %tries = (
    # listen PORT FILE: binds, and listens once FILE is there.
    listen => sub {
        my ($port, $file) = @_;
        my $socket = bound($port);
        touch("$file.bound");
        select(undef, undef, undef, 0.05) until -e $file;
        print came(listen($socket, 5)), "\n";
        touch("$file.done");
        sleep 600;
    },
    # passed PORT USER: listens, and a child that has become USER accepts for as long as it is told to try again.
    passed => sub {
        my ($port, $user) = @_;
        my $socket = bound($port);
        listen($socket, 5) or die "listen: $!\n";
        my $child = fork() // die "fork: $!\n";
        if ($child == 0) {
            my $id = getpwnam($user) // die "no user $user\n";
            ($<, $>) = ($id, $id);
            my @seen;
            my $until = time + 5;
            while (time < $until) {
                my $came = came(accept(my $connection, $socket));
                push @seen, $came unless @seen && $seen[-1] eq $came;
                last if $came eq 'EINVAL' || $came eq 'ok';
            }
            print "@seen\n";
            exit 0;
        }
        waitpid $child, 0;
    },
    # accept PORT TIMES: listens, and accepts that often; `waits` is an accept() that does not come back.
    accept => sub {
        my ($port, $times) = @_;
        my $socket = bound($port);
        my @seen = (came(listen($socket, 5)));
        local $SIG{ALRM} = sub { die "waits\n" };
        for (1 .. $times) {
            my $came = eval { alarm 2; my $came = came(accept(my $connection, $socket)); alarm 0; $came };
            push @seen, $came // 'waits';
        }
        print "@seen\n";
    },
    # packet: asks for a packet socket.
    packet => sub { print came(socket(my $socket, 17, SOCK_RAW, 0)), "\n" },
    # smc ADDRESS PORT: connects by AF_SMC.
    smc => sub {
        my ($address, $port) = @_;
        socket(my $socket, 43, SOCK_STREAM, 0) or do { print came(0), "\n"; return };
        print came(connect($socket, pack_sockaddr_in($port, inet_aton($address)))), "\n";
    },
    # fast ADDRESS PORT: opens a connection by the data that it sends (MSG_FASTOPEN).
    fast => sub {
        my ($address, $port) = @_;
        socket(my $socket, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
        print came(send($socket, 'x', 0x20000000, pack_sockaddr_in($port, inet_aton($address)))), "\n";
    },
    # tamper DIRECTORY: tries to take away what is pinned there, as any root process could.
    tamper => sub {
        my ($directory) = @_;
        my %opened;
        my $id = 0;
        while (1) {
            my $next = pack('LLLL', $id, 0, 0, 0);
            last if bpf(31, $next) < 0;    # BPF_LINK_GET_NEXT_ID
            $id = (unpack('LL', $next))[1];
            my $link = pack('LLLL', $id, 0, 0, 0);
            $opened{ came(bpf(30, $link) >= 0) }++;    # BPF_LINK_GET_FD_BY_ID
        }
        print 'open by number: ', join(' ', sort keys %opened), "\n";
        my ($pin) = glob("$directory/set-*/links/connect4");
        my $descriptor = object($pin);
        print 'detach: ', came($descriptor >= 0 && bpf(34, pack('LLLL', $descriptor, 0, 0, 0)) >= 0), "\n";
        print 'replace: ', came(bpf(29, pack('LLLL', $descriptor, $descriptor, 0, 0)) >= 0), "\n";
        my ($map) = glob("$directory/set-*/maps/CONTROL");
        print 'write: ', came(object($map) >= 0), "\n";
        print 'unpin: ', came(unlink($pin)), "\n";
        print 'rename: ', came(rename($pin, "$pin.away")), "\n";
        print 'move: ', came(rename($directory, "$directory.away")), "\n";
    },
);

sub came {
    return 'ok' if $_[0];
    my ($name) = grep { $!{$_} } keys %!;
    return $name // "$!";
}

sub bound {
    my ($port) = @_;
    socket(my $socket, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($socket, pack_sockaddr_in($port, INADDR_ANY)) or die "bind: $!\n";
    return $socket;
}

sub touch {
    open(my $file, '>', $_[0]) or die "$_[0]: $!\n";
}

# bpf(2); the attributes are changed in place.
sub bpf {
    my ($command) = @_;
    return syscall($BPF, $command, $_[1], length $_[1]);
}

# BPF_OBJ_GET
sub object {
    my $path = "$_[0]\0";
    return bpf(7, pack('QLL', unpack('Q', pack('p', $path)), 0, 0));
}

my ($what, @arguments) = @ARGV;
($tries{$what} // die "no such try: $what\n")->(@arguments);
