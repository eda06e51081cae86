//! Port classes: for each direction and protocol, which lists of services hold which port.

use std::collections::BTreeSet;

use verdict::{Direction, Protocol, limits::PORT_CLASSES_MAX};

use crate::{
    Budget, Service,
    classes::{Classes, Labels, sweep},
};

/// Which service lists (by index) hold, in which direction.
pub(crate) type PortSignature = (Direction, Labels);

/// The classes and the tables that lead to them.
#[derive(Debug)]
pub(crate) struct PortTables {
    pub(crate) classes: Classes<PortSignature>,
    /// For each of the four port tables: where each class starts, ascending, the first at port 0.
    pub(crate) ports: [Vec<(u16, u32)>; 4],
    /// For each direction: the class of each protocol without ports.
    pub(crate) protocols: [Vec<u32>; 2],
}

/// The four tables in the order of [`verdict::layout::port_table`].
const TABLES: [(Direction, Protocol); 4] = [
    (Direction::Out, Protocol::TCP),
    (Direction::In, Protocol::TCP),
    (Direction::Out, Protocol::UDP),
    (Direction::In, Protocol::UDP),
];

/// Services of rules of one direction.
pub(crate) type ServiceList<'a> = (Direction, &'a [Service]);

/// `lists` are the distinct service lists of the rules.
pub(crate) fn port_tables(lists: &[ServiceList<'_>]) -> Result<PortTables, Budget> {
    let first = (Direction::Out, Labels::default());
    let mut tables = PortTables {
        classes: Classes::starting_with(first, "port classes", PORT_CLASSES_MAX),
        ports: Default::default(),
        protocols: Default::default(),
    };
    let PortTables { classes, ports, protocols } = &mut tables;
    for ((direction, protocol), table) in TABLES.into_iter().zip(ports) {
        *table = sweep(ranges(lists, direction, protocol), |active| {
            classes.number((direction, Labels::clone(active)))
        })?;
    }
    let named: Vec<_> = lists.iter().map(|&(way, list)| (way, named(list))).collect();
    for (direction, table) in [Direction::Out, Direction::In].into_iter().zip(protocols) {
        for protocol in (0..=u8::MAX).map(Protocol) {
            let active = (0u32..)
                .zip(&named)
                .filter(|(_, (way, _))| *way == direction)
                .filter(|(_, (_, named))| named.as_ref().is_none_or(|it| it.contains(&protocol)))
                .map(|(list, _)| list);
            table.push(classes.number((direction, active.collect()))?);
        }
    }
    Ok(tables)
}

/// The protocols that a list names; `None` is any.
fn named(list: &[Service]) -> Option<BTreeSet<Protocol>> {
    list.iter().map(|service| service.protocol).collect()
}

/// The ports of `protocol` in each list of a direction, merged so that the ranges of one list neither overlap nor touch.
fn ranges(
    lists: &[ServiceList<'_>],
    direction: Direction,
    protocol: Protocol,
) -> Vec<(u16, u16, u32)> {
    let mut all = Vec::new();
    for (label, (way, list)) in (0u32..).zip(lists) {
        if *way != direction {
            continue;
        }
        let mut own: Vec<(u16, u16)> = list
            .iter()
            .filter(|service| service.protocol.is_none_or(|named| named == protocol))
            .map(|service| (service.ports.first, service.ports.last))
            .collect();
        own.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(own.len());
        for (first, last) in own {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => {
                    previous.1 = previous.1.max(last)
                }
                Some(_) | None => merged.push((first, last)),
            }
        }
        all.extend(merged.into_iter().map(|(first, last)| (first, last, label)));
    }
    all
}
