//! JSON objects that are read field by field: what nobody asked for is named, not skipped.

use serde_json::{Map, Value};

use super::Gaps;

/// An object and what of it was read.
pub(super) struct Fields<'a> {
    /// Where it stands, for messages.
    place: String,
    object: &'a Map<String, Value>,
    read: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `None`, with a gap, if `value` is no object. `null` is an empty one, as in Kubernetes.
    pub(super) fn new(value: &'a Value, place: impl Into<String>, gaps: &mut Gaps) -> Option<Self> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let place = place.into();
        match value {
            Value::Object(object) => Some(Self { place, object, read: Vec::new() }),
            Value::Null => Some(Self { place, object: &EMPTY, read: Vec::new() }),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                gaps.push(&place, short(value), "an object is expected here; left out");
                None
            }
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A field, if it is there and not null.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.take(name).and_then(Value::as_str)
    }

    /// The elements of a list; none if the field is not there. Another kind of value is a gap.
    pub(super) fn list(&mut self, name: &'static str, gaps: &mut Gaps) -> Option<&'a [Value]> {
        match self.take(name) {
            None => None,
            Some(Value::Array(list)) => Some(list),
            Some(other) => {
                gaps.push(
                    &self.place,
                    format!("{name}: {}", short(other)),
                    "a list is expected here; left out",
                );
                None
            }
        }
    }

    /// Fields that say nothing about what is allowed.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.read.extend(names);
    }

    /// Fields that nobody read.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.object.iter().filter(|(name, _)| !self.read.contains(&name.as_str()))
    }

    /// Names what nobody read; whether there was something.
    pub(super) fn finish(&self, effect: &str, gaps: &mut Gaps) -> bool {
        let mut found = false;
        for (name, value) in self.unread() {
            gaps.push(&self.place, format!("{name}: {}", short(value)), effect);
            found = true;
        }
        found
    }
}

/// Characters of a construct that messages show.
const SHOWN_MAX: usize = 160;

/// A value on one line.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX {
        return text;
    }
    text.chars().take(SHOWN_MAX).chain("...".chars()).collect()
}
