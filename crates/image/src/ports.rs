//! Port classes: for each direction and protocol, which lists of services hold which port.

use verdict::{Direction, Protocol, limits::PORT_CLASSES_MAX};

use crate::{
    Budget, Service,
    classes::{Classes, sweep},
};

/// Which service lists (by index) hold, in which direction.
pub(crate) type PortSignature = (Direction, Vec<u32>);

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

/// `lists` are the distinct service lists of the rules.
pub(crate) fn port_tables(lists: &[&[Service]]) -> Result<PortTables, Budget> {
    let mut tables = PortTables {
        classes: Classes::starting_with((Direction::Out, Vec::new())),
        ports: Default::default(),
        protocols: Default::default(),
    };
    let PortTables { classes, ports, protocols } = &mut tables;
    for ((direction, protocol), table) in TABLES.into_iter().zip(ports) {
        sweep(ranges(lists, protocol), |port, active| {
            let class = number(classes, direction, active)?;
            if table.last().is_none_or(|&(_, last)| last != class) {
                table.push((port, class));
            }
            Ok::<(), Budget>(())
        })?;
    }
    for (direction, table) in [Direction::Out, Direction::In].into_iter().zip(protocols) {
        for protocol in (0..=u8::MAX).map(Protocol) {
            let active: Vec<u32> = (0u32..)
                .zip(lists)
                .filter(|(_, list)| {
                    list.iter().any(|service| service.protocol.is_none_or(|own| own == protocol))
                })
                .map(|(list, _)| list)
                .collect();
            table.push(number(classes, direction, &active)?);
        }
    }
    Ok(tables)
}

fn number(
    classes: &mut Classes<PortSignature>,
    direction: Direction,
    active: &[u32],
) -> Result<u32, Budget> {
    let class = classes.number(&(direction, active.to_vec()));
    Budget::spend("port classes", classes.len(), PORT_CLASSES_MAX, None)?;
    Ok(class)
}

/// The ports of `protocol` in each list, merged so that the ranges of one list neither overlap nor touch.
fn ranges(lists: &[&[Service]], protocol: Protocol) -> Vec<(u16, u16, u32)> {
    let mut all = Vec::new();
    for (label, list) in (0u32..).zip(lists) {
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
