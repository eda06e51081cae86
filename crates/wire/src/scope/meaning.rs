//! Whether whatever one selector means another means too: in every inventory, for every host, at every address.
//!
//! Worlds are decided question by question (is it known? is it this host? which value has its label?), and a branch ends
//! as soon as the answer is the same whatever the rest: that is exact, and short for selectors as people write them.

use std::collections::BTreeMap;

use image::AddressSet;
use policy::inventory::HOST_KEY;
use verdict::Address;

use super::{
    escape::Why,
    form::{Form, Question, Value, World},
};

/// Two selectors.
pub(super) struct Comparison<'a, 'f> {
    inner: &'f Form<'a>,
    outer: &'f Form<'a>,
    /// Every value that a label is tested for, by key, sorted.
    values: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a, 'f> Comparison<'a, 'f> {
    pub(super) fn new(inner: &'f Form<'a>, outer: &'f Form<'a>) -> Self {
        let mut values = BTreeMap::new();
        inner.values(&mut values);
        outer.values(&mut values);
        for values in values.values_mut() {
            values.sort_unstable();
            values.dedup();
        }
        Self { inner, outer, values }
    }

    /// Somebody whom the inner one means and the outer one does not; `None` if there is nobody.
    ///
    /// # Errors
    /// [`Why::Involved`] once `steps` are used up.
    pub(super) fn outside(&self, steps: &mut u64) -> Result<Option<String>, Why> {
        // Worlds that are to be looked at; a stack of our own, since questions can be many.
        let mut worlds = vec![World::default()];
        while let Some(world) = worlds.pop() {
            let mut open = None;
            let inner = self.inner.meant(&world, &mut open, steps).ok_or(Why::Involved)?;
            if inner.may.is_empty() {
                continue;
            }
            let outer = self.outer.meant(&world, &mut open, steps).ok_or(Why::Involved)?;
            if within(&world, inner.may.difference(&outer.must)).is_empty() {
                continue;
            }
            let certain = within(&world, inner.must.difference(&outer.may));
            if let Some((first, _)) = certain.ranges().next() {
                return Ok(Some(world.spelled(first)));
            }
            let Some(question) = open else {
                unreachable!("a form that asks nothing holds for certain what it may hold")
            };
            let before = worlds.len();
            self.branch(&world, question, &mut worlds);
            let branches = u64::try_from(worlds.len() - before).unwrap_or(u64::MAX);
            *steps = steps.checked_sub(branches).ok_or(Why::Involved)?;
        }
        Ok(None)
    }

    /// The worlds that `world` is once `question` is answered.
    fn branch(&self, world: &World<'a>, question: Question<'a>, worlds: &mut Vec<World<'a>>) {
        match question {
            Question::Known => {
                worlds.extend([true, false].map(|it| World { known: Some(it), ..world.clone() }));
            }
            Question::Me => {
                worlds.extend([true, false].map(|it| World { me: Some(it), ..world.clone() }));
            }
            Question::Called(word) => {
                for it in [false, true] {
                    let mut next = world.clone();
                    next.called.insert(word, it);
                    worlds.push(next);
                }
            }
            Question::Label(key) => {
                let values = self.values.get(key).into_iter().flatten().copied().map(Value::Is);
                let absent = (key != HOST_KEY).then_some(Value::Absent);
                for value in values.chain([Value::Other]).chain(absent) {
                    // Whose id a word is, is called by it.
                    if let Value::Is(word) = value
                        && key == HOST_KEY
                        && world.called.get(word) == Some(&false)
                    {
                        continue;
                    }
                    let mut next = world.clone();
                    next.labels.insert(key, value);
                    worlds.push(next);
                }
            }
        }
    }
}

/// Addresses that somebody in this world can have: whoever has one of loopback is the host that enforces.
fn within(world: &World<'_>, addresses: AddressSet) -> AddressSet {
    if world.me == Some(false) { addresses.difference(AddressSet::loopback()) } else { addresses }
}

impl World<'_> {
    /// Somebody in it, for people.
    fn spelled(&self, address: Address) -> String {
        let addresses = policy::syntax::Addresses::from(address);
        let mut who = match (self.me, self.known) {
            (Some(true), _) => format!("{addresses} of the host that enforces"),
            (_, Some(true)) => format!("{addresses} of a host"),
            (_, Some(false)) => format!("{addresses} of somebody the inventory does not know"),
            (_, None) => addresses.to_string(),
        };
        let called =
            self.called.iter().filter(|&(_, &it)| it).map(|(word, _)| format!("called {word}"));
        let labels = self.labels.iter().map(|(key, value)| match value {
            Value::Absent => format!("without {key}"),
            Value::Is(value) => format!("with {key}={value}"),
            Value::Other => format!("with another {key}"),
        });
        for more in called.chain(labels) {
            who.push(' ');
            who.push_str(&more);
        }
        who
    }
}
