//! One rule replaced by another: what an editor, a controller or `fwnet deny add` does.

use super::{Change, Compiler, identity, place_rule};
use crate::{
    compile::{PlacedPolicy, SetKey},
    diagnostic::SourceIndex,
    inventory::Inventory,
    policy::{Policy, PolicyRule, effective},
    syntax::{Meaning, Rule, ServiceKind, Statement},
};

/// Why a rule cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such rule
    #[error("there is no rule {place} in document {source_index}")]
    NoRule {
        /// Which document was meant.
        source_index: SourceIndex,
        /// Which of its rules, counted from 0.
        place: usize,
    },
    /// The rule uses a word that means nothing there
    #[error("`{word}` is neither a name of the document nor a host")]
    UndefinedName {
        /// The word.
        word: String,
    },
    /// Another rule has this id
    #[error("the id `{id}` is given twice")]
    RepeatedId {
        /// The id.
        id: String,
    },
}

impl Compiler {
    /// Puts `rule` in the place of rule `place` (counted from 0) of document `source`. Costs what this rule costs.
    ///
    /// # Errors
    /// [`EditError`]; nothing has changed then.
    pub fn replace_rule(
        &mut self,
        source: SourceIndex,
        place: usize,
        rule: Rule,
    ) -> Result<Change, EditError> {
        let none = || EditError::NoRule { source_index: source, place };
        let policy = self.world.policies.get(source).ok_or_else(none)?;
        let (line, old_id) = policy.rules.get(place).cloned().ok_or_else(none)?;
        look_up(policy, &self.world.inventory, &rule)?;
        let tier = policy.tier.word();
        let before =
            policy.rules().nth(place).map(|written| written.rule.clone()).ok_or_else(none)?;
        let renamed = self.ids.rename(tier, &before, &old_id, &rule);
        self.write(source, line, rule.clone());
        match renamed {
            Some(id) => self.set_id(source, place, id),
            None => {
                if !identity::rename_all(&mut self.world.policies) {
                    self.write(source, line, before);
                    let valid = identity::rename_all(&mut self.world.policies);
                    assert!(valid, "the ids were unique before the edit");
                    let id = rule.options.id.map(|id| id.text).unwrap_or_default();
                    return Err(EditError::RepeatedId { id });
                }
                self.ids = identity::Ids::new(&self.world.policies);
                self.place_all();
                return Ok(self.note(true));
            }
        }
        let changed = self.place_one(source, place);
        Ok(self.note(changed))
    }

    fn write(&mut self, source: SourceIndex, line: usize, rule: Rule) {
        let policy = self.world.policies.get_mut(source);
        if let Some(line) = policy.and_then(|policy| policy.document.lines.get_mut(line)) {
            line.statement = Some(Statement::Rule(rule));
        }
    }

    fn set_id(&mut self, source: SourceIndex, place: usize, id: String) {
        let policy = self.world.policies.get_mut(source);
        if let Some((_, own)) = policy.and_then(|policy| policy.rules.get_mut(place)) {
            *own = id;
        }
    }

    /// Places one rule anew. Says whether it concerns this host, before or now.
    fn place_one(&mut self, source: SourceIndex, place: usize) -> bool {
        let facts = self.world.facts();
        let (Some(policy), Some(scene), Some(placed)) =
            (self.world.policies.get(source), self.scenes.get(source), self.placed.get_mut(source))
        else {
            return false;
        };
        let Some((line, id)) = policy.rules.get(place) else { return false };
        let Some(Statement::Rule(rule)) =
            policy.document.lines.get(*line).and_then(|line| line.statement.as_ref())
        else {
            return false;
        };
        let mode = effective(policy.mode, rule.mode);
        let new = place_rule(policy, PolicyRule { id, mode, rule }, scene, &facts, &self.here);
        let keys: Vec<SetKey> = new
            .iter()
            .flat_map(|placed| &placed.halves)
            .filter_map(|half| half.remote.clone())
            .filter(|key| !self.sets.knows(key))
            .collect();
        if let Some(placed) = &new {
            let one = std::iter::once(&**placed);
            self.sets.fill(policy, one, &self.world.inventory, &self.here, &self.order);
            self.sets.index(policy, keys.iter());
        }
        let Some(slot) = placed.rules.get_mut(place) else { return false };
        let concerns = new.is_some() || slot.is_some();
        *slot = new;
        if concerns {
            self.sweep();
        }
        concerns
    }

    /// Forgets idle sets when there are too many.
    fn sweep(&mut self) {
        let named: usize =
            self.placed.iter().flat_map(PlacedPolicy::all).map(|placed| placed.halves.len()).sum();
        if self.sets.len() > 2 * named + super::IDLE_SETS {
            self.fill();
        }
    }
}

/// Every word of a rule must mean something of its kind.
fn look_up(policy: &Policy, inventory: &Inventory, rule: &Rule) -> Result<(), EditError> {
    let undefined = |word: &str| EditError::UndefinedName { word: word.to_owned() };
    for selector in [&rule.from.selector, &rule.to.selector] {
        for word in selector.words() {
            match policy.meaning(word) {
                Some(Meaning::Selector(_)) => {}
                Some(Meaning::Services(_)) => return Err(undefined(word)),
                None if inventory.find(word).is_some() => {}
                None => return Err(undefined(word)),
            }
        }
    }
    for service in &rule.services {
        if let ServiceKind::Named(word) = &service.kind
            && !matches!(policy.meaning(word), Some(Meaning::Services(_)))
        {
            return Err(undefined(word));
        }
    }
    Ok(())
}
