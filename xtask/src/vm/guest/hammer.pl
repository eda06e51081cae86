#!/usr/bin/perl
# hammer DENIED ALLOWED FILE: connects to both ports of 127.0.0.1 without a pause, to the second one with success, until
# FILE.stop is there. Then FILE has the counts: of rounds, and of verdicts that were wrong, with the first of them.
use strict;
use warnings;
use Errno qw(EACCES);
use Socket qw(:all);

my ($denied, $allowed, $file) = @ARGV;
my $loopback = inet_aton("127.0.0.1");
socket(my $listener, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
bind($listener, pack_sockaddr_in($allowed, $loopback)) or die "bind: $!";
listen($listener, 16) or die "listen: $!";
my ($rounds, $wrong, $first) = (0, 0, "");
sub wrong {
    my ($what) = @_;
    $first = "round $rounds: $what" unless $wrong++;
}
until (-e "$file.stop") {
    $rounds++;
    socket(my $one, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    if (connect($one, pack_sockaddr_in($denied, $loopback))) { wrong("denied, and connected") }
    elsif ($! != EACCES) { wrong("denied, and connect() said: $!") }
    close $one;
    socket(my $two, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    if (connect($two, pack_sockaddr_in($allowed, $loopback))) {
        if (accept(my $peer, $listener)) { close $peer } else { wrong("allowed, and accept() said: $!") }
    } else { wrong("allowed, and connect() said: $!") }
    # A reset instead of a goodbye, else ports run out.
    setsockopt($two, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0));
    close $two;
    if ($rounds == 1) { open(my $begun, ">", "$file.begun"); close $begun }
}
open(my $out, ">", "$file.new") or die "open: $!";
print $out "$rounds rounds, $wrong wrong $first\n";
close $out;
rename "$file.new", $file;
