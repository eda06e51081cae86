//! The network of the simulated fleet: who connects to whom, and what is carried between them.

use super::*;

impl World {
    pub(super) fn connect(&mut self) {
        let mut calls = Vec::new();
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if host.client.is_none() || host.dial.is_none_or(|at| self.now < at) {
                continue;
            }
            host.dial = None;
            let reached = self.cut.get(&number).is_none_or(|until| *until <= self.now);
            let server = match self.chance.below(4) {
                0 | 1 => Server::Relay,
                _ => Server::Controller(self.chance.place(CONTROLLERS)),
            };
            if reached && self.is_up(server) {
                calls.push((Caller::Host(number), server));
            } else {
                let asks = self.hosts[number].handle(self.now, Input::Unreached);
                assert!(asks.is_empty());
            }
        }
        if self.relay.is_some() && !self.connections.iter().any(|it| it.caller == Caller::Relay) {
            let server = Server::Controller(self.chance.place(CONTROLLERS));
            if self.is_up(server) {
                calls.push((Caller::Relay, server));
            }
        }
        let leader = self.shared.leader(self.now);
        for number in 0..CONTROLLERS {
            let caller = Caller::Controller(number);
            let Some(leader) = leader.filter(|leader| *leader != number) else { continue };
            let server = Server::Controller(leader);
            let mut own = self.connections.iter_mut().filter(|it| it.caller == caller);
            if let Some(own) = own.find(|it| !it.dead) {
                own.dead = own.server != server;
            } else if self.members[number].alive.is_some() && self.is_up(server) {
                calls.push((caller, server));
            }
        }
        for (caller, server) in calls {
            self.connections.push(Connection {
                caller,
                server,
                link: None,
                opens: self.now + self.chance.below(300),
                delay: self.chance.below(300),
                up: VecDeque::new(),
                down: VecDeque::new(),
                unwritten: false,
                closing: false,
                dead: false,
            });
        }
    }

    pub(super) fn is_up(&self, server: Server) -> bool {
        match server {
            Server::Controller(number) => self.members[number].alive.is_some(),
            Server::Relay => self.relay.is_some(),
        }
    }

    pub(super) fn deliver(&mut self) {
        for place in 0..self.connections.len() {
            self.open(place);
            self.upward(place);
            self.downward(place);
        }
    }

    /// The handshake is done.
    pub(super) fn open(&mut self, place: usize) {
        let Connection { caller, server, link, opens, dead, .. } = self.connections[place];
        if dead || link.is_some() || self.now < opens {
            return;
        }
        let peer = match caller {
            Caller::Host(number) => {
                let id = self.hosts[number].id.clone();
                Peer::Host { certificate: certificate(&id), id }
            }
            Caller::Relay => Peer::Relay { name: "r".to_owned(), certificate: certificate("r") },
            Caller::Controller(number) => Peer::Controller { name: format!("c{number}") },
        };
        let mut out = Vec::new();
        let link = self.serve(server, |server, at| server.opened(&peer, at, &mut out));
        self.connections[place].link = link;
        self.carry_out(server, out);
        let mut out = Vec::new();
        match caller {
            Caller::Host(number) => {
                let asks = self.hosts[number].handle(self.now, Input::Connected);
                self.asked(number, asks);
            }
            Caller::Relay => {
                if let Some(relay) = &mut self.relay {
                    relay.upstream_opened(&mut out);
                }
                self.carry_out(Server::Relay, out);
            }
            Caller::Controller(number) => {
                if let Some(controller) = &mut self.members[number].alive {
                    controller.upstream_opened();
                }
            }
        }
    }

    pub(super) fn serve<T>(
        &mut self,
        server: Server,
        ask: impl FnOnce(&mut dyn Serves, At) -> T,
    ) -> Option<T> {
        match server {
            Server::Controller(number) => {
                let at = self.at(self.members[number].skew_s);
                let controller = self.members[number].alive.as_mut()?;
                Some(ask(controller, at))
            }
            Server::Relay => {
                let at = self.at(0);
                Some(ask(self.relay.as_mut()?, at))
            }
        }
    }

    pub(super) fn upward(&mut self, place: usize) {
        loop {
            let now = self.now;
            let connection = &mut self.connections[place];
            let Some(link) = connection.link.filter(|_| !connection.dead) else { return };
            let server = connection.server;
            let mut out = Vec::new();
            if std::mem::take(&mut connection.unwritten) {
                self.serve(server, |server, at| server.written(link, at, &mut out));
            } else if connection.up.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, said)) = connection.up.pop_front() else { return };
                self.serve(server, |server, at| server.said(link, said, at, &mut out));
            } else {
                return;
            }
            self.carry_out(server, out);
        }
    }

    pub(super) fn downward(&mut self, place: usize) {
        loop {
            let now = self.now;
            let corrupt = self.troubled && self.chance.below(60) == 0;
            let connection = &mut self.connections[place];
            if connection.dead {
                return;
            }
            if connection.down.front().is_none_or(|(at, _)| now < *at) {
                connection.dead = connection.closing && connection.down.is_empty();
                return;
            }
            let Some((_, mut said)) = connection.down.pop_front() else { return };
            let (caller, server) = (connection.caller, connection.server);
            // A relay that lies: what it passes on is another thing.
            if server == Server::Relay {
                self.sum.relayed += 1;
                if corrupt && let Some(Down::Part(part)) = &mut said.say {
                    self.sum.corrupted += u64::from(!part.bytes.is_empty());
                    part.bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
                }
            }
            match caller {
                Caller::Host(number) => {
                    let asks = self.hosts[number].handle(now, Input::Heard(said));
                    self.asked(number, asks);
                }
                Caller::Relay => {
                    let (at, mut out) = (self.at(0), Vec::new());
                    if let Some(relay) = &mut self.relay {
                        relay.heard(said, at, &mut out);
                    }
                    self.carry_out(Server::Relay, out);
                }
                // The leader tells other controllers nothing.
                Caller::Controller(_) => {}
            }
        }
    }

    pub(super) fn asked(&mut self, number: usize, asks: Vec<Ask>) {
        let now = self.now;
        let own = |it: &&mut Connection| it.caller == Caller::Host(number) && !it.dead;
        for ask in asks {
            let Some(connection) = self.connections.iter_mut().find(own) else { return };
            match ask {
                Ask::Send(say) => {
                    let due = now + connection.delay;
                    connection.up.push_back((due, say));
                }
                Ask::Close => connection.dead = true,
            }
        }
    }

    pub(super) fn carry_out(&mut self, by: Server, effects: Vec<Effect>) {
        for effect in effects {
            let own = |it: &&mut Connection, link| it.server == by && it.link == Some(link);
            match effect {
                Effect::Send { link, frame } => {
                    let bytes = frame.to_vec();
                    let said = Decoder::default().next(&mut bytes.as_slice()).unwrap().unwrap();
                    // One that is being opened has no link yet here.
                    let mut found = self.connections.iter_mut().find(|it| own(it, link));
                    if found.is_none() {
                        let fresh = |it: &&mut Connection| it.server == by && it.link.is_none();
                        found = self.connections.iter_mut().find(|it| fresh(it) && !it.dead);
                    }
                    let Some(connection) = found else { continue };
                    connection.down.push_back((self.now + connection.delay, said));
                    connection.unwritten = true;
                }
                Effect::Close { link, .. } => {
                    let mut all = self.connections.iter_mut();
                    if let Some(connection) = all.find(|it| own(it, link)) {
                        connection.closing = true;
                    }
                }
                Effect::Commit(batch) => {
                    let Server::Controller(number) = by else { panic!("a relay commits") };
                    if self.members[number].cut_until <= self.now {
                        self.shared.commit(number, self.now, batch);
                    }
                }
                Effect::Upstream(say) => {
                    let caller = match by {
                        Server::Controller(number) => Caller::Controller(number),
                        Server::Relay => Caller::Relay,
                    };
                    let mut all = self.connections.iter_mut();
                    let Some(connection) = all.find(|it| it.caller == caller && !it.dead) else {
                        continue;
                    };
                    connection.up.push_back((self.now + connection.delay, say));
                }
                Effect::Enforced { .. } | Effect::Tell(_) => {}
            }
        }
    }

    /// Both ends of connections that broke are told.
    pub(super) fn bury(&mut self) {
        let mut dead = Vec::new();
        self.connections.retain(|it| {
            if it.dead {
                dead.push((it.caller, it.server, it.link, it.closing));
            }
            !it.dead
        });
        for (caller, server, link, _) in dead {
            if let Some(link) = link {
                self.serve(server, |server, _| server.closed(link));
            }
            match caller {
                Caller::Host(number) => {
                    self.hosts[number].handle(self.now, Input::Closed);
                }
                Caller::Relay => {
                    if let Some(relay) = &mut self.relay {
                        relay.upstream_closed();
                    }
                }
                Caller::Controller(number) => {
                    if let Some(controller) = &mut self.members[number].alive {
                        controller.upstream_closed();
                    }
                }
            }
        }
        let model = self.shared.log.len() as u64;
        if model != 0 && self.now.is_multiple_of(1_000) {
            self.count();
        }
    }
}

/// A controller or a relay.
pub(super) trait Serves {
    fn opened(&mut self, peer: &Peer, at: At, out: &mut Vec<Effect>) -> Link;
    fn said(&mut self, link: Link, said: Upward, at: At, out: &mut Vec<Effect>);
    fn written(&mut self, link: Link, at: At, out: &mut Vec<Effect>);
    fn closed(&mut self, link: Link);
}

macro_rules! serves {
    ($($type:ty),*) => {
        $(impl Serves for $type {
            fn opened(&mut self, peer: &Peer, at: At, out: &mut Vec<Effect>) -> Link {
                <$type>::opened(self, peer, at, out)
            }

            fn said(&mut self, link: Link, said: Upward, at: At, out: &mut Vec<Effect>) {
                <$type>::said(self, link, said, at, out);
            }

            fn written(&mut self, link: Link, at: At, out: &mut Vec<Effect>) {
                <$type>::written(self, link, at, out);
            }

            fn closed(&mut self, link: Link) {
                <$type>::closed(self, link);
            }
        })*
    };
}

serves!(Controller, Relay);
