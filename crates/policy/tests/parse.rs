//! The text form: what is read, and what is said about what cannot be read.

use policy::{Diagnostics, Parsed, parse, render};

fn read(text: &str) -> (Parsed, String) {
    let mut report = Diagnostics::default();
    let parsed = parse(text.as_bytes(), 0, &mut report);
    (parsed, render(&report, &[("p", text)]))
}

const EVERYTHING: &str = r#"
tier team
mode enforce   # from Monday on

name web    = role=web & env=prod
name office = 203.0.113.0/24, 2001:db8::/48
name pg     = tcp/5432
name sql    = pg
name old    = (role in (a, "b c",  # both
                       d) | not has env) & !me except host=x-1

allow web -> db : pg
allow office -> role=bastion : tcp/22                 owner="ops"  until 2027-01-31
allow web[user=www-data exe=/usr/sbin/nginx] -> api : tcp/443, udp/443
deny  any -> 192.168.56.101                           reason="TICKET-17"
deny  any -> any : tcp/10000
audit deny any -> env=prod except role=bastion : tcp/22
refuse 2001:db8::1 -> fd00::1-fd00::9: tcp/any log existing revoke id="r-1" until 2027-01-31T18:00:00Z

default deny in
inbound drop
failsafe 10.0.0.0/24 -> me : tcp/22
test allow web-1 -> db-1 : tcp/5432
test deny  db-1 -> web-1 : any
"#;

#[test]
fn every_construct_is_read() {
    let (parsed, said) = read(EVERYTHING);
    assert_eq!(said, "");
    assert_eq!(parsed.document.rules().count(), 7);
    assert_eq!(parsed.document.tests().count(), 2);
    assert_eq!(parsed.document.names().count(), 5);
}
