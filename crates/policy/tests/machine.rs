//! What editors and CI read: the short form, SARIF, and the grammar for highlighting.

use jiff::Timestamp;
use policy::{Checked, Source, check};
use serde_json::Value;

const TEXT: &str =
    "name a = me\nname a = any\nallow a -> any : tpc/1\nallow any -> me until 1969-07-20\n";

fn checked() -> Checked {
    check(&[Source { name: "shop.fwnet", bytes: TEXT.as_bytes() }], None, Timestamp::UNIX_EPOCH)
}

#[test]
fn the_short_form_is_one_line_each() {
    let expected = "\
shop.fwnet:2:6: error[repeated-name]: `a` is defined twice
shop.fwnet:3:18: error[service]: `tpc` is not a protocol: tcp, udp, sctp, udplite, icmp, icmpv6 and numbers from 0 to 255 are
shop.fwnet:4:1: warning[expired]: the rule has ended: until 1969-07-20 (remove it, or give it a later day)
";
    assert_eq!(checked().short(), expected);
}

#[test]
fn sarif_has_places_and_rules() {
    let log: Value = serde_json::from_str(&checked().sarif()).unwrap();
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["ruleId"], "repeated-name");
    assert_eq!(results[0]["level"], "error");
    let region = &results[0]["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        (&region["startLine"], &region["startColumn"], &region["endColumn"]),
        (&2.into(), &6.into(), &7.into())
    );
    assert_eq!(results[0]["relatedLocations"][0]["physicalLocation"]["region"]["startLine"], 1);
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert!(results.iter().all(|result| rules.contains(&result["ruleId"].as_str().unwrap())));
}

/// The highlighting is no parser, but every word of the language is in it.
#[test]
fn the_editors_grammar_knows_every_word() {
    let text = include_str!("../../../editors/fwnet.tmLanguage.json");
    let grammar: Value = serde_json::from_str(text).unwrap();
    assert_eq!(grammar["scopeName"], "source.fwnet");
    let page = include_str!("../../../docs/policy.md");
    let (_, ebnf) = page.split_once("```ebnf\n").unwrap();
    let (ebnf, _) = ebnf.split_once("```").unwrap();
    let words: Vec<&str> = ebnf
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        .collect();
    assert!(words.len() > 40, "{words:?}");
    // `\\b` is an edge of a word in its patterns.
    let text = text.replace(r"\\b", " ");
    for word in words {
        assert!(
            text.split(|character: char| !character.is_ascii_alphanumeric())
                .any(|known| known == word),
            "{word}"
        );
    }
    let rules = grammar["repository"].as_object().unwrap();
    let included = grammar["patterns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pattern| pattern["include"].as_str().unwrap());
    for name in included {
        assert!(rules.contains_key(name.trim_start_matches('#')), "{name}");
    }
}
