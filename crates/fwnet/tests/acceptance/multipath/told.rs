//! What the kernel tells a program of its connection of MPTCP, subflow by subflow. (mptcp_sockopt.c.)

use std::{
    net::{IpAddr, TcpStream},
    os::fd::AsFd,
};

use kernel::raw::option::{Multipath, multipath};

/// `struct mptcp_subflow_data` (include/uapi/linux/mptcp.h): its own size, how many subflows there are, and the sizes of
/// an entry for each of them, the kernel's and the program's.
const HEADER: u32 = 16;
/// `struct mptcp_subflow_addrs`: two of `struct sockaddr_storage`.
const ADDRESSES: u32 = 256;
/// What `struct tcp_info` begins with (include/uapi/linux/tcp.h): the state, a byte.
const STATE: u32 = 1;
/// Of the states of TCP (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;

/// The addresses of each subflow, this end's and the other's, sorted.
#[track_caller]
pub(super) fn paths(stream: &TcpStream) -> Vec<[IpAddr; 2]> {
    let entries = entries(stream, Multipath::Addresses, ADDRESSES);
    let mut paths: Vec<_> =
        entries.iter().map(|entry| [address(entry), address(&entry[128..])]).collect();
    paths.sort_unstable();
    paths
}

/// How many subflows are established.
#[track_caller]
pub(super) fn established(stream: &TcpStream) -> usize {
    let states = entries(stream, Multipath::States, STATE);
    states.iter().filter(|state| **state == [ESTABLISHED]).count()
}

/// How many subflows there are besides the first: `mptcpi_subflows`, with which `struct mptcp_info` begins.
#[track_caller]
pub(super) fn extra(stream: &TcpStream) -> u8 {
    let mut value = [0];
    assert_eq!(multipath(stream.as_fd(), Multipath::Info, &mut value).unwrap(), 1);
    value[0]
}

/// What is told of each subflow, `size` bytes at most.
#[track_caller]
fn entries(stream: &TcpStream, what: Multipath, size: u32) -> Vec<Vec<u8>> {
    let mut value = [HEADER, 0, 0, size].map(u32::to_ne_bytes).concat();
    value.resize(4096, 0);
    let length = multipath(stream.as_fd(), what, &mut value).unwrap();
    value[HEADER as usize..length].chunks(size as usize).map(<[u8]>::to_vec).collect()
}

/// The address in a `struct sockaddr_storage`: of IPv4 behind family and port, of IPv6 behind a flow label besides.
#[track_caller]
fn address(bytes: &[u8]) -> IpAddr {
    match u16::from_ne_bytes([bytes[0], bytes[1]]) {
        2 => <[u8; 4]>::try_from(&bytes[4..8]).unwrap().into(),
        10 => <[u8; 16]>::try_from(&bytes[8..24]).unwrap().into(),
        family => panic!("an address of family {family}"),
    }
}
