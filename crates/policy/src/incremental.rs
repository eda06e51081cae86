//! Compiled policies that are kept up to date: after each change what is compiled equals, byte for byte, what a
//! compilation from scratch gives, and only what the change touches is worked out again.
//!
//! What is kept: what each rule is at this host, the address set of each selector that a rule of this host names for its
//! peers, and which of them speak of which label. What is not kept: which rules select which hosts, the index that would
//! cost most of a fleet's compilation; this host's own rules are asked one by one.

mod edit;
mod identity;

use image::{AddressSet, RuleSet};
use jiff::Timestamp;
use verdict::Address;

pub use edit::EditError;

use crate::{
    compile::{
        CompileError, Compiled, Gathered, Origin, PlacedPolicy, Scene, SetKey, Sets, gather,
        place_rule,
    },
    facts::{Facts, Here, Identities},
    inventory::{Host, HostIndex, Inventory, InventoryFault},
    policy::Policy,
    resolve::{AddressOrder, Eye, Near},
};

/// The host that enforces, as its shell knows it. See [`Facts`] for the meaning of each field.
pub struct Enforcer {
    /// Id or name of the host.
    pub host: String,
    /// Addresses besides those of the inventory.
    pub addresses: Vec<Address>,
    /// Users, groups, executables and units of the host.
    pub identities: Box<dyn Identities + Send + Sync>,
}

/// Whether a change can make another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that concerns this host.
    None,
    /// A rule that concerns this host: [`Compiler::compiled`] is to be asked again.
    Rules,
}

impl Change {
    fn when(concerns: bool) -> Self {
        if concerns { Self::Rules } else { Self::None }
    }
}

/// What [`Facts`] are made from.
struct World {
    policies: Vec<Policy>,
    inventory: Inventory,
    enforcer: Enforcer,
    now: Timestamp,
    version: u64,
}

impl World {
    fn facts(&self) -> Facts<'_> {
        Facts {
            addresses: &self.enforcer.addresses,
            version: self.version,
            ..Facts::new(&self.inventory, &self.enforcer.host, &*self.enforcer.identities, self.now)
        }
    }

    fn here(&self) -> Here {
        Here::new(&self.inventory, &self.enforcer.host, &self.enforcer.addresses)
    }
}

/// Policies of one host that are compiled again whenever they, the inventory or the time change.
pub struct Compiler {
    world: World,
    here: Here,
    order: AddressOrder,
    scenes: Vec<Scene>,
    placed: Vec<PlacedPolicy>,
    sets: Sets,
    ids: identity::Ids,
    compiled: Compiled,
    /// Something concerned this host since `compiled`.
    behind: bool,
}

/// Sets that no rule names any more are kept for as long as they are fewer than those that are named, and this many.
const IDLE_SETS: usize = 64;

impl Compiler {
    /// Compiles `policies`, which were checked together with `inventory` and without errors.
    ///
    /// # Errors
    /// [`CompileError`] if the rules do not fit.
    pub fn new(
        policies: Vec<Policy>,
        inventory: Inventory,
        enforcer: Enforcer,
        now: Timestamp,
        version: u64,
    ) -> Result<Self, CompileError> {
        let world = World { policies, inventory, enforcer, now, version };
        let here = world.here();
        let order = AddressOrder::new(&world.inventory);
        let facts = world.facts();
        let scenes: Vec<Scene> = world
            .policies
            .iter()
            .map(|policy| Scene::new(policy, &world.inventory, &here))
            .collect();
        let placed = place_all(&world, &scenes, &here);
        let mut sets = Sets::default();
        fill(&mut sets, &world, &placed, &here, &order);
        let compiled = gather(&world.policies, &placed, &sets, &facts, &here).compile()?;
        let ids = identity::Ids::new(&world.policies);
        Ok(Self { world, here, order, scenes, placed, sets, ids, compiled, behind: false })
    }

    /// What the policies are at this host now. Makes the image if a change since the last call concerned this host, once
    /// for all such changes.
    ///
    /// # Errors
    /// [`CompileError`] if the rules do not fit any more: [`Compiler::last`] stays as it was, until a change makes them
    /// fit again.
    pub fn compiled(&mut self) -> Result<&Compiled, CompileError> {
        if self.behind {
            let gathered = self.gather();
            self.compiled = if gathered.rules == self.compiled.rules {
                gathered.with(self.compiled.image.clone())
            } else {
                gathered.compile()?
            };
            self.behind = false;
        }
        Ok(&self.compiled)
    }

    /// What was compiled last and fitted.
    pub fn last(&self) -> &Compiled {
        &self.compiled
    }

    /// The rules that concern this host now and where each comes from, without an image.
    pub fn rules(&self) -> (RuleSet, Vec<Origin>) {
        let Gathered { rules, origins, .. } = self.gather();
        (rules, origins)
    }

    fn gather(&self) -> Gathered {
        let World { policies, .. } = &self.world;
        gather(policies, &self.placed, &self.sets, &self.world.facts(), &self.here)
    }

    fn note(&mut self, concerns: bool) -> Change {
        self.behind |= concerns;
        Change::when(concerns)
    }

    /// The policies as they are now.
    pub fn policies(&self) -> &[Policy] {
        &self.world.policies
    }

    /// The hosts as they are now.
    pub fn inventory(&self) -> &Inventory {
        &self.world.inventory
    }

    /// What the policies are compiled against now.
    pub fn facts(&self) -> Facts<'_> {
        self.world.facts()
    }

    /// Takes other policies, checked together with [`Compiler::inventory`] and without errors. Address sets that their
    /// selectors still stand for are kept.
    pub fn replace_policies(&mut self, policies: Vec<Policy>, version: u64) -> Change {
        let same_names = policies.len() == self.world.policies.len()
            && policies
                .iter()
                .zip(&self.world.policies)
                .all(|(new, old)| identity::same_names(new, old));
        let same = policies == self.world.policies && version == self.world.version;
        self.world.policies = policies;
        self.world.version = version;
        self.ids = identity::Ids::new(&self.world.policies);
        if !same_names {
            self.sets = Sets::default();
        }
        self.place_all();
        self.note(!same)
    }

    /// Adds a host, or replaces the one of the same id: other labels, names or addresses.
    ///
    /// # Errors
    /// What is wrong with the host by itself or in this inventory; nothing has changed then.
    pub fn replace_host(&mut self, host: Host) -> Result<Change, Vec<InventoryFault>> {
        let old = self
            .world
            .inventory
            .find(&host.id)
            .and_then(|index| self.world.inventory.host(index))
            .cloned();
        let new = host.clone();
        let index = self.world.inventory.replace(host)?;
        let old_addresses = old.as_ref().map(|old| old.addresses.clone()).unwrap_or_default();
        self.order.replace(index, &old_addresses, &new.addresses);
        let here = self.world.here();
        if here != self.here {
            self.here = here;
            self.sets = Sets::default();
            self.place_all();
            return Ok(self.note(true));
        }
        let mut changed = self.take_over(index, old.as_ref(), &new);
        if self.here.index == Some(index) {
            self.place_all();
            changed = true;
        }
        Ok(self.note(changed))
    }

    /// Takes over that the time is `now`: rules that have ended since are left out.
    pub fn advance(&mut self, now: Timestamp) -> Change {
        let ends = || self.world.policies.iter().flat_map(|policy| policy.document.rules());
        let (earlier, later) = (now.min(self.world.now), now.max(self.world.now));
        let passed = ends()
            .filter_map(|rule| rule.options.until)
            .any(|until| earlier < until.ends_at() && until.ends_at() <= later);
        self.world.now = now;
        self.compiled.now_ns = self.world.facts().told(now);
        if passed {
            self.place_all();
        }
        self.note(passed)
    }

    /// What every rule is at this host, from the start; address sets that are known stay.
    fn place_all(&mut self) {
        let policies = &self.world.policies;
        let scene = |policy| Scene::new(policy, &self.world.inventory, &self.here);
        self.scenes = policies.iter().map(scene).collect();
        self.placed = place_all(&self.world, &self.scenes, &self.here);
        self.fill();
    }

    /// Works out the sets that are named and not known.
    fn fill(&mut self) {
        let named: usize =
            self.placed.iter().flat_map(PlacedPolicy::all).map(|placed| placed.halves.len()).sum();
        if self.sets.len() > 2 * named + IDLE_SETS {
            self.sets = Sets::default();
        }
        fill(&mut self.sets, &self.world, &self.placed, &self.here, &self.order);
    }

    /// Patches the address sets that a host's change from `old` to `new` can change.
    fn take_over(&mut self, index: HostIndex, old: Option<&Host>, new: &Host) -> bool {
        let relabelled = old.filter(|old| old.names == new.names && old.addresses == new.addresses);
        let keys = match relabelled {
            Some(old) => self.sets.speaking_of(&old.labels, &new.labels),
            None => self.sets.keys(),
        };
        let me = self.here.index == Some(index);
        let of = |addresses: &[Address]| {
            let listed = addresses.iter().filter(|address| !address.is_loopback());
            AddressSet::from_ranges(listed.map(|&address| (address, address)))
        };
        let kept =
            if me { of(&self.here.own).union(AddressSet::loopback()) } else { of(&new.addresses) };
        let left = of(old.map_or(&[], |old| &old.addresses)).difference(&kept);
        let mut changed = false;
        for key in keys {
            let near = |eye: Eye<'_>| self.near(&key, eye);
            let host = near(Eye { host: Some(new), me });
            let stranger = (!left.is_empty()).then(|| near(Eye { host: None, me: false }));
            changed |= self.sets.patch(&key, &kept, &host);
            if let Some(stranger) = stranger {
                changed |= self.sets.patch(&key, &left, &stranger);
            }
        }
        changed
    }

    /// What the selector of `key` means when asked about one host.
    fn near(&self, key: &SetKey, eye: Eye<'_>) -> Near {
        match self.world.policies.get(key.source) {
            Some(policy) => Near::with_names(&key.selector, policy, eye),
            None => Near::Never,
        }
    }
}

fn place_all(world: &World, scenes: &[Scene], here: &Here) -> Vec<PlacedPolicy> {
    let facts = world.facts();
    let policies = world.policies.iter().zip(scenes);
    policies.map(|(policy, scene)| PlacedPolicy::new(policy, scene, &facts, here)).collect()
}

fn fill(
    sets: &mut Sets,
    world: &World,
    placed: &[PlacedPolicy],
    here: &Here,
    order: &AddressOrder,
) {
    for (policy, placed) in world.policies.iter().zip(placed) {
        let keys = || {
            placed.all().flat_map(|placed| &placed.halves).filter_map(|half| half.remote.as_ref())
        };
        let new: Vec<SetKey> = keys().filter(|key| !sets.knows(key)).cloned().collect();
        if !new.is_empty() {
            sets.fill(policy, placed.all(), &world.inventory, here, order);
            sets.index(policy, new.iter());
        }
    }
}
