//! Both stores keep the same promises, also when what they run on is killed.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "store/collecting.rs"]
mod collecting;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/embedded.rs"]
mod embedded;
#[path = "store/etcd.rs"]
mod etcd;
#[path = "../../controller/tests/support/people.rs"]
mod people;
#[path = "store/promises.rs"]
mod promises;
#[path = "store/proxy.rs"]
mod proxy;
