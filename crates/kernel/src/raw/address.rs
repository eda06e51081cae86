//! A socket address as the bytes that the kernel reads: `struct sockaddr_in`, `struct sockaddr_in6` and a short
//! `struct sockaddr_un` (ip(7), ipv6(7), unix(7)), whole or spoiled. Pure; no system call.

use std::net::SocketAddr;

/// Bytes of the larger of the two structures, `struct sockaddr_in6`.
pub const BYTES_MAX: usize = size_of::<libc::sockaddr_in6>();

const _: () = assert!(
    size_of::<libc::sockaddr_in>() == 16 && BYTES_MAX == 28,
    "the layouts of ip(7) and ipv6(7)"
);

/// `AF_INET` and `AF_INET6` as the kernel stores them, in host byte order.
const AF_INET: [u8; 2] = 2_u16.to_ne_bytes();
const AF_INET6: [u8; 2] = 10_u16.to_ne_bytes();
/// `AF_UNIX`, likewise.
const AF_UNIX: [u8; 2] = 1_u16.to_ne_bytes();
/// Where a name begins that is in no directory (unix(7), "abstract"): after the family and a zero byte.
const NAME_AT: usize = 3;

/// A socket address in the kernel's layout: aligned to four bytes, the length not above [`BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct KernelAddress {
    bytes: [u8; BYTES_MAX],
    len: u32,
}

impl KernelAddress {
    /// 0.0.0.0 with the family `AF_UNSPEC`, which bind(2) takes as `AF_INET` (`__inet_bind` in net/ipv4/af_inet.c).
    pub fn without_family(port: u16) -> Self {
        let mut bytes = [0; BYTES_MAX];
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        Self { bytes, len: 16 }
    }

    /// A name of AF_UNIX that is in no directory. `None` for one that does not fit.
    pub fn unix(name: &str) -> Option<Self> {
        let mut bytes = [0; BYTES_MAX];
        bytes[..2].copy_from_slice(&AF_UNIX);
        let end = NAME_AT.checked_add(name.len())?;
        bytes.get_mut(NAME_AT..end)?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, len: u32::try_from(end).ok()? })
    }

    /// The same bytes behind another family.
    #[must_use]
    pub fn of_family(mut self, family: u16) -> Self {
        self.bytes[..2].copy_from_slice(&family.to_ne_bytes());
        self
    }

    /// The same address with another length, at most [`BYTES_MAX`]: cut off, or with zeros behind it.
    #[must_use]
    pub fn as_long_as(self, len: usize) -> Self {
        let len = len.min(BYTES_MAX);
        Self { len: u32::try_from(len).unwrap_or_default(), ..self }
    }

    /// The bytes in use: 16 for IPv4, 28 for IPv6, if nothing was spoiled.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// How many bytes are in use, as the calls want it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether not even a family is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<SocketAddr> for KernelAddress {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; BYTES_MAX];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let len = match address {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&AF_INET);
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&AF_INET6);
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        };
        Self { bytes, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_family_port_address_and_padding() {
        let address = KernelAddress::from("127.0.0.2:10000".parse::<SocketAddr>().unwrap());
        let [low, high] = 10_000_u16.to_be_bytes();
        let mut expected = [0; 16];
        expected[..2].copy_from_slice(&2_u16.to_ne_bytes());
        expected[2..8].copy_from_slice(&[low, high, 127, 0, 0, 2]);
        assert_eq!(address.bytes(), expected);
    }

    #[test]
    fn a_spoiled_address_keeps_the_bytes_that_were_not() {
        let address = KernelAddress::from("127.0.0.2:10000".parse::<SocketAddr>().unwrap());
        assert_eq!(address.of_family(0).bytes()[2..], address.bytes()[2..]);
        assert_eq!(address.as_long_as(5).bytes(), &address.bytes()[..5]);
        assert_eq!(address.as_long_as(28).bytes()[16..], [0; 12]);
        assert_eq!(address.as_long_as(1000).len(), 28);
        assert!(address.as_long_as(0).is_empty());
    }

    #[test]
    fn a_name_without_a_directory_begins_with_a_zero() {
        assert_eq!(KernelAddress::unix("ab").unwrap().bytes()[2..], *b"\0ab");
        assert_eq!(KernelAddress::unix(&"a".repeat(26)), None);
    }

    #[test]
    fn ipv6_holds_the_address_at_byte_eight() {
        let address = KernelAddress::from("[::ffff:127.0.0.2]:1".parse::<SocketAddr>().unwrap());
        assert_eq!(address.len(), 28);
        assert_eq!(address.bytes()[18..24], [0xff, 0xff, 127, 0, 0, 2]);
    }
}
