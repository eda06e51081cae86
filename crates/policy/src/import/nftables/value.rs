//! The right sides of matches: addresses, ports and names, alone, as prefixes and ranges, and in sets.

use image::AddressSet;
use serde_json::Value;
use verdict::{Address, Protocol};

use super::super::area::Services;
use crate::syntax::{Addresses, PortRange};

/// Named sets of the table.
pub(super) type Sets<'a, 's> = &'s dyn Fn(&str) -> Option<&'a Value>;

/// The elements of a right side; the reason if they cannot be known.
pub(super) fn elements<'a>(value: &'a Value, sets: Sets<'a, '_>) -> Result<Vec<&'a Value>, String> {
    if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
        let set = sets(name).ok_or_else(|| format!("there is no set @{name}"))?;
        let flags = set.get("flags").map(ToString::to_string).unwrap_or_default();
        if flags.contains("dynamic") || flags.contains("timeout") {
            return Err(format!("the set @{name} changes by itself ({flags})"));
        }
        let list = set.get("elem").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        return list.iter().map(plain).collect();
    }
    match value.get("set") {
        Some(Value::Array(list)) => list.iter().map(plain).collect(),
        Some(other) => elements(other, sets),
        // A set of flags, `ct state established,related`, is a plain list.
        None => match value.as_array() {
            Some(list) => list.iter().map(plain).collect(),
            None => Ok(vec![value]),
        },
    }
}

/// An element without its comment and counter. One that expires is not a constant.
fn plain(element: &Value) -> Result<&Value, String> {
    let Some(inner) = element.get("elem") else { return Ok(element) };
    if inner.get("timeout").is_some() || inner.get("expires").is_some() {
        return Err("elements of the set expire".to_owned());
    }
    inner.get("val").ok_or_else(|| format!("{inner} has no value"))
}

/// One element as addresses.
fn address(element: &Value) -> Option<AddressSet> {
    let parse = |text: &str| text.parse::<Addresses>().ok();
    let addresses = if let Some(text) = element.as_str() {
        parse(text)
    } else if let Some(prefix) = element.get("prefix") {
        let address = prefix.get("addr")?.as_str()?;
        parse(&format!("{address}/{}", prefix.get("len")?.as_u64()?))
    } else {
        let range = element.get("range")?.as_array()?;
        let [first, last] = range.as_slice() else { return None };
        parse(&format!("{}-{}", first.as_str()?, last.as_str()?))
    }?;
    let ranges = addresses.ranges();
    Some(AddressSet::from_ranges(
        ranges.map(|(first, last)| (Address::from_bits(first), Address::from_bits(last))),
    ))
}

/// Addresses of all elements.
pub(super) fn addresses<'a>(value: &'a Value, sets: Sets<'a, '_>) -> Result<AddressSet, String> {
    elements(value, sets)?.into_iter().try_fold(AddressSet::new(), |all, element| {
        let one = address(element).ok_or_else(|| format!("{element} is not an address"))?;
        Ok(all.union(&one))
    })
}

/// One element as ports.
fn port_range(element: &Value) -> Option<PortRange> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = port(element) {
        return Some(PortRange { first: port, last: port });
    }
    let [first, last] = element.get("range")?.as_array()?.as_slice() else { return None };
    Some(PortRange { first: port(first)?, last: port(last)? })
}

/// Ports of all elements, of each of the protocols.
pub(super) fn ports<'a>(
    value: &'a Value,
    protocols: &[Protocol],
    sets: Sets<'a, '_>,
) -> Result<Services, String> {
    let mut all = Services::none();
    for element in elements(value, sets)? {
        let range = port_range(element).ok_or_else(|| format!("{element} is not a port"))?;
        for &protocol in protocols {
            all = all.union(&Services::ports(protocol, range));
        }
    }
    Ok(all)
}

/// Protocols of all elements.
pub(super) fn protocols<'a>(value: &'a Value, sets: Sets<'a, '_>) -> Result<Services, String> {
    elements(value, sets)?.into_iter().try_fold(Services::none(), |all, element| {
        let one = protocol(element).ok_or_else(|| format!("{element} is not a protocol"))?;
        Ok(all.union(&Services::protocol(one)))
    })
}

/// Names as nft prints them, from /etc/protocols.
fn protocol(element: &Value) -> Option<Protocol> {
    if let Some(number) = element.as_u64() {
        return u8::try_from(number).ok().map(Protocol);
    }
    Some(match element.as_str()? {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        "udplite" => Protocol::UDPLITE,
        "icmp" => Protocol::ICMP,
        "icmpv6" | "ipv6-icmp" => Protocol::ICMPV6,
        "dccp" => Protocol(33),
        "gre" => Protocol(47),
        "esp" => Protocol(50),
        "ah" => Protocol(51),
        "igmp" => Protocol(2),
        "comp" | "ipcomp" => Protocol(108),
        _ => return None,
    })
}

/// Names or numbers of all elements, as words: users, groups, states, interfaces.
pub(super) fn words<'a>(value: &'a Value, sets: Sets<'a, '_>) -> Result<Vec<String>, String> {
    let word = |element: &Value| match element {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("{element} is not a name"))
        }
    };
    elements(value, sets)?.into_iter().map(word).collect()
}
