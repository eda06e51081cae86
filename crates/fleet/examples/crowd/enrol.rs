//! What very many enrolments leave behind: certificates, and records in the store.
//!
//! All hosts have one key. It is the certificate that says who somebody is, each has its own, and a handshake costs the
//! same; what is saved is the making of keys, which hosts do themselves.

use std::{path::Path, time::Instant};

use controller::{
    Digest,
    records::{HostRecord, Key, RelayRecord, Taken, encode},
};
use fleet::{
    authority::{Authority, LIFETIME},
    store::{Batch, Leader, Leadership, Location, Store, batch::OPERATIONS_MAX},
    subject::{Kind, Subject},
};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use verdict::Address;

use crate::{
    Failure,
    book::{self, id},
    say::say,
};

/// Roles of hosts, one after the other: a rule of one role concerns one in so many.
pub(crate) const ROLES: u32 = 50;

/// See [`crate::Verb::Enrol`].
pub(crate) fn enrol(
    directory: &Path,
    store: &Location,
    hosts: u32,
    relays: u32,
    controller: &str,
) -> Result<(), Failure> {
    let authority = Authority::open(directory)?;
    let now = Timestamp::now();
    let begun = Instant::now();
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let mut book = book::Writing::begin(directory, &key.serialize_der())?;
    let mut records = Vec::new();
    for number in 0..hosts {
        let id = id(number);
        let subject = Subject::new(Kind::Host, &id)?;
        let certificate = authority.sign(request.der(), &subject, now, LIFETIME)?;
        book.add(&certificate)?;
        let address = Address::v4(0x0a00_0000 + number);
        let host = HostRecord {
            labels: [("role".to_owned(), format!("r{}", number % ROLES))].into(),
            addresses: vec![address],
            names: Vec::new(),
            certificate: Digest::of(&certificate),
            previous: None,
            enrolled_at: now,
            quarantined: false,
            since: 0,
        };
        records.push((Key::Host(id.clone()).text(), encode(&host)));
        records.push((Key::Address(address).text(), encode(&Taken { host: id })));
    }
    // Who waits for a rival shows the first certificate, and its server this one.
    let serving = authority.issue(&Subject::new(Kind::Controller, "rival")?, now, LIFETIME)?;
    book.finish(&authority, &serving)?;
    for number in 0..relays {
        let name = format!("relay-{number}");
        let relay = authority.issue(&Subject::new(Kind::Relay, &name)?, now, LIFETIME)?;
        let member = relay.member(vec![controller.to_owned()], String::new())?;
        member.save(&directory.join(&name))?;
        let certificate = Digest::of(&relay.certificate);
        let record = RelayRecord { certificate, previous: None, enrolled_at: now };
        records.push((Key::Relay(name).text(), encode(&record)));
    }
    let certificates_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(write(store, records))?;
    let records_s = begun.elapsed().as_secs_f64();
    say(&json!({"enrolled": {
        "hosts": hosts, "relays": relays, "certificates_s": certificates_s, "records_s": records_s,
    }}))
}

async fn write(store: &Location, records: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    let store = Store::open(store).await?;
    let leader = Leader { name: "crowd".to_owned(), endpoint: String::new() };
    let leads: Leadership = store.campaign(&leader).await?;
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let put = records.by_ref().take(OPERATIONS_MAX).collect();
        leads.commit(&Batch { put, ..Batch::default() }).await?;
    }
    Ok(leads.resign().await?)
}
