//! Controllers that run in this process, over real sockets: who gets in, what they may do there, and what is told to whom.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "controllers/admission.rs"]
mod admission;
#[path = "controllers/backup.rs"]
mod backup;
#[path = "controllers/intruders.rs"]
mod intruders;
#[path = "controllers/lagging.rs"]
mod lagging;
#[path = "controllers/line.rs"]
mod line;
#[path = "controllers/measured.rs"]
mod measured;
#[path = "controllers/people.rs"]
mod people;
#[path = "controllers/problems.rs"]
mod problems;
#[path = "controllers/proxy.rs"]
mod proxy;
#[path = "controllers/renewal.rs"]
mod renewal;
#[path = "controllers/running.rs"]
mod running;
