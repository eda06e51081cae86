//! A whole fleet in virtual time, the same for the same seed: controllers on one store, a relay, hosts with the agent's own
//! machine; operators who change their minds; connections that break and lie, partitions, wrong clocks, crashes.
//!
//! What must hold: versions on a host never go back, except by the end of a trial; a host enforces nothing that nobody
//! signed; who is shut off stays so; and once all is healed, every host has what the records say, soon, also if a version
//! that was tried was never confirmed.
#![cfg(test)]

#[path = "simulation/centre.rs"]
mod centre;
#[path = "support/chance.rs"]
mod chance;
#[path = "simulation/host.rs"]
mod host;
#[path = "support/people.rs"]
mod people;
#[path = "support/swap.rs"]
mod swap;
#[path = "simulation/world.rs"]
mod world;

use chance::seeds;
use world::World;

#[test]
fn a_fleet_comes_together_whatever_happened() {
    let mut sum = world::Sum::default();
    seeds(220, |seed| {
        let mut world = World::new(seed);
        world.trouble(40_000);
        world.heal();
        world.settle(400_000);
        sum.add(&world.sum);
    });
    if std::env::var_os("FWNET_SEED").is_none() {
        // A simulation in which nothing happens would hold whatever was wrong.
        let world::Sum {
            versions,
            confirmed,
            halted,
            broken,
            crashed,
            corrupted,
            relayed,
            collected,
        } = sum;
        for (what, count) in [
            ("versions", versions),
            ("confirmed", confirmed),
            ("halted", halted),
            ("broken connections", broken),
            ("crashes", crashed),
            ("corrupted messages", corrupted),
            ("messages through the relay", relayed),
            ("pieces that nobody needed", collected),
        ] {
            assert!(50 < count, "{what}: {count}");
        }
    }
}
