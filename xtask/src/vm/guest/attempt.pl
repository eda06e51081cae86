#!/usr/bin/perl
# attempt ADDRESS PORT: connects once, and prints what came of it: `connected`, or the name of the error.
use strict;
use warnings;
use Errno;
use Socket qw(:all);

my ($address, $port) = @ARGV;
my $six = $address =~ /:/;
socket(my $socket, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
my $to = $six
    ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address))
    : pack_sockaddr_in($port, inet_aton($address));
$SIG{ALRM} = sub { print "no answer\n"; exit 0 };
alarm 5;
if (connect($socket, $to)) {
    print "connected\n";
} else {
    my ($name) = grep { $!{$_} } keys %!;
    print $name // "$!", "\n";
}
