//! A host of the simulated fleet: the agent's own machine, and a core that verifies as agents do. A crash leaves its disk
//! and what the kernel has, a trial's deadline among that.

use std::collections::{BTreeMap, VecDeque};

use agent::{
    sync::{Client, Digest, Done, Effect, InForce, Input, Order, Pulse},
    trusted::Trusted,
};
use jiff::Timestamp;
use wire::{Trust, sync::Upward};

/// Something in force.
#[derive(Clone, Debug)]
struct Force {
    target: Digest,
    snapshot: u64,
    texts: Vec<String>,
}

/// A host.
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) client: Option<Client>,
    disk: BTreeMap<Digest, Vec<u8>>,
    trusted: Trusted,
    current: Option<Force>,
    /// With what is trusted once it is confirmed, and when the kernel ends it.
    trial: Option<(Force, Trusted, u64)>,
    pub(crate) quarantined: bool,
    /// When the agent dials.
    pub(crate) dial: Option<u64>,
    pub(crate) restart: Option<u64>,
    /// Orders to the core, with when they are done.
    orders: VecDeque<(u64, Order)>,
    seed: u64,
    told: InForce,
    /// Everything that people signed.
    signed: &'static [String],
}

/// What a host asks of the network.
pub(crate) enum Ask {
    Send(Upward),
    Close,
}

impl Host {
    pub(crate) fn new(id: String, root: &[u8], signed: &'static [String], seed: u64) -> Self {
        let trust = Trust::begin(root).unwrap();
        let mut host = Self {
            id,
            client: None,
            disk: BTreeMap::new(),
            trusted: Trusted { trust, audiences: Vec::new() },
            current: None,
            trial: None,
            quarantined: false,
            dial: None,
            restart: None,
            orders: VecDeque::new(),
            seed,
            told: InForce::default(),
            signed,
        };
        host.start(seed % 1_000);
        host
    }

    /// The agent begins.
    pub(crate) fn start(&mut self, now: u64) {
        let kept = self.disk.clone();
        self.seed = self.seed.wrapping_add(0x9e37_79b9);
        let in_force = self.in_force();
        let client = Client::begin(self.id.clone(), "sim".into(), kept, in_force, self.seed);
        self.told = in_force;
        self.client = Some(client);
        self.dial = Some(now);
        self.restart = None;
    }

    /// The agent dies, at whatever it is; what the core was doing is done or not.
    pub(crate) fn crash(&mut self, until: u64, done: bool, wall: Timestamp, now: u64) {
        if done {
            while let Some((_, order)) = self.orders.pop_front() {
                // Nobody is left to hear how it came out.
                drop(self.carry_out(order, wall, now));
            }
        }
        self.orders.clear();
        (self.client, self.dial, self.restart) = (None, None, Some(until));
    }

    pub(crate) fn in_force(&self) -> InForce {
        let now = self.trial.as_ref().map(|it| &it.0).or(self.current.as_ref());
        InForce {
            current: self.current.as_ref().map(|it| it.target),
            trial: self.trial.as_ref().map(|it| it.0.target),
            snapshot: now.map_or(0, |it| it.snapshot),
        }
    }

    /// The agent is told something.
    pub(crate) fn handle(&mut self, now: u64, input: Input) -> Vec<Ask> {
        let Some(client) = &mut self.client else { return Vec::new() };
        let mut asks = Vec::new();
        for effect in client.handle(now, input) {
            match effect {
                Effect::Send(say) => asks.push(Ask::Send(say)),
                Effect::Close(_) => asks.push(Ask::Close),
                Effect::Dial(at) => self.dial = Some(at),
                Effect::Order(order) => self.orders.push_back((now + self.seed % 300, order)),
                Effect::Keep(name, bytes) => {
                    self.disk.insert(name, bytes);
                }
                Effect::Forget(name) => {
                    self.disk.remove(&name);
                }
                Effect::Tell(_) => {}
            }
        }
        asks
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, now: u64, wall: Timestamp) -> Vec<Ask> {
        if self.trial.as_ref().is_some_and(|(_, _, until)| *until <= now) {
            self.trial = None;
        }
        if self.restart.is_some_and(|at| at <= now) {
            self.start(now);
        }
        let mut asks = Vec::new();
        while self.orders.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, order)) = self.orders.pop_front() else { break };
            let answered = !matches!(order, Order::Quarantine(_));
            let done = self.carry_out(order, wall, now);
            if let Ok(Some(snapshot)) = done {
                asks.extend(self.handle(now, Input::Verified(snapshot)));
            }
            if answered {
                asks.extend(self.tell(now));
                let done = done.map_or_else(Done::Refused, |_| Done::Well);
                asks.extend(self.handle(now, Input::Done(done)));
            }
        }
        if self.in_force() != self.told {
            asks.extend(self.tell(now));
        }
        asks.extend(self.handle(now, Input::Tick));
        asks
    }

    fn tell(&mut self, now: u64) -> Vec<Ask> {
        self.told = self.in_force();
        self.handle(now, Input::InForce(self.told, Some(Pulse::default())))
    }

    /// The core does what it is ordered: the snapshot that was verified, if there was one; or why it refuses.
    fn carry_out(
        &mut self,
        order: Order,
        wall: Timestamp,
        now: u64,
    ) -> Result<Option<u64>, String> {
        match order {
            Order::Quarantine(on) => self.quarantined = on,
            Order::RollBack => self.trial = None,
            Order::Confirm(target) => {
                // If the deadline was faster, nothing is done, and the agent sees that.
                if let Some((force, trusted, _)) = self.trial.take() {
                    self.put(Force { target, ..force }, trusted);
                }
            }
            Order::Apply(asked) => {
                assert!(self.trial.is_none(), "a trial ends before something else is applied");
                let bundle = asked.bundle.as_bytes();
                let examined = self
                    .trusted
                    .examine(bundle, &self.id, Some(&asked.me), wall)
                    .map_err(|error| error.to_string())?;
                policy::Inventory::read(asked.inventory.as_bytes())
                    .map_err(|error| error.to_string())?;
                let snapshot = examined.signed.snapshot;
                let texts: Vec<String> =
                    examined.policies.into_iter().map(|policy| policy.text).collect();
                for text in &texts {
                    assert!(self.signed.contains(text), "nobody signed {text:?}");
                }
                let force = Force { target: asked.target, snapshot, texts };
                match asked.confirm_s {
                    Some(seconds) => {
                        self.trial = Some((force, examined.trusted, now + seconds * 1_000));
                    }
                    None => self.put(force, examined.trusted),
                }
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    fn put(&mut self, force: Force, trusted: Trusted) {
        let before = self.current.as_ref().map_or(0, |it| it.snapshot);
        assert!(before <= force.snapshot, "{}: {before} to {}", self.id, force.snapshot);
        (self.current, self.trusted) = (Some(force), trusted);
    }

    /// How it stands, for messages.
    pub(crate) fn account(&self) -> String {
        let hex = |digest: Digest| controller::Digest(digest).to_string();
        let client = self.client.as_ref();
        let wanted = client.and_then(Client::wanted).map(hex);
        let refused = client.and_then(Client::refused);
        let refused = refused.map(|(digest, why)| format!("{}: {why}", hex(*digest)));
        let (dial, orders) = (self.dial, &self.orders.len());
        format!("wanted {wanted:?}, refused {refused:?}, dial {dial:?}, {orders} orders")
    }

    /// The texts that decide for good.
    pub(crate) fn texts(&self) -> &[String] {
        self.current.as_ref().map(|it| it.texts.as_slice()).unwrap_or_default()
    }
}
