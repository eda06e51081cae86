//! The names that a document defines, each worked out once.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use policy::{
    Document,
    syntax::{Expression, Meaning, Selector, Service},
};

use super::{
    escape::Why,
    form::{Form, Part},
};

/// Names that may be looked up one through the other. The policy language has no such limit: a document that needs more
/// cannot be delegated.
const CHAIN_MAX: u32 = 64;

/// What the names of a document stand for.
pub(super) struct Names<'a> {
    meanings: BTreeMap<&'a str, &'a Meaning>,
    known: RefCell<BTreeMap<&'a str, Rc<Form<'a>>>>,
}

impl<'a> Names<'a> {
    /// # Errors
    /// A name that is defined twice.
    pub(super) fn of(document: &'a Document) -> Result<Self, Why> {
        let mut meanings = BTreeMap::new();
        for name in document.names() {
            if meanings.insert(name.name.text.as_str(), &name.means).is_some() {
                return Err(Why::Name(name.name.text.clone()));
            }
        }
        Ok(Self { meanings, known: RefCell::default() })
    }

    /// A selector with its names looked up. A word that is no name is a host.
    ///
    /// # Errors
    /// A name that cannot be.
    pub(super) fn form<'b>(&self, selector: &'b Selector) -> Result<Rc<Form<'b>>, Why>
    where
        'a: 'b,
    {
        self.built(selector, CHAIN_MAX)
    }

    fn built<'b>(&self, selector: &'b Selector, chain: u32) -> Result<Rc<Form<'b>>, Why>
    where
        'a: 'b,
    {
        let each = |members: &'b [Selector]| {
            members.iter().map(|member| self.built(member, chain)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match &*selector.expression {
            Expression::Any => Form::leaf(Part::Any),
            Expression::Me => Form::leaf(Part::Me),
            Expression::Named(word) => match self.meanings.get_key_value(word.as_str()) {
                None => Form::leaf(Part::Called(word)),
                Some((name, meaning)) => self.named(name, meaning, chain)?,
            },
            Expression::Addresses(addresses) => Form::set(*addresses),
            Expression::Label { key, test } => Form::leaf(Part::Label { key: &key.text, test }),
            Expression::Not(inner) => Form::not(self.built(inner, chain)?),
            Expression::AllOf(members) => Form::all(each(members)?),
            Expression::AnyOf(members) => Form::any(each(members)?),
            Expression::Except(from, without) => {
                let without = Form::not(self.built(without, chain)?);
                Form::all(vec![self.built(from, chain)?, without])
            }
        })
    }

    fn named(&self, name: &'a str, meaning: &'a Meaning, chain: u32) -> Result<Rc<Form<'a>>, Why> {
        if let Some(known) = self.known.borrow().get(name) {
            return Ok(Rc::clone(known));
        }
        let Meaning::Selector(selector) = meaning else { return Err(Why::Kind(name.to_owned())) };
        let chain = chain.checked_sub(1).ok_or_else(|| Why::Name(name.to_owned()))?;
        let form = self.built(selector, chain)?;
        self.known.borrow_mut().insert(name, Rc::clone(&form));
        Ok(form)
    }

    /// What a name of services stands for.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn services(&self, name: &str) -> Result<&'a [Service], Why> {
        match self.meanings.get(name) {
            Some(Meaning::Services(services)) => Ok(services),
            Some(Meaning::Selector(_)) | None => Err(Why::Kind(name.to_owned())),
        }
    }
}
