//! What goes wrong in the simulated fleet, and what its operators ask for.

use std::collections::BTreeMap;

use super::*;

impl World {
    pub(super) fn harm(&mut self) {
        for number in 0..self.connections.len() {
            if self.chance.percent(1) && self.chance.percent(60) {
                self.connections[number].dead = true;
                self.sum.broken += 1;
            }
        }
        for number in 0..self.hosts.len() {
            if self.chance.below(300) == 0 {
                let (until, done) = (self.now + self.chance.below(8_000), self.chance.percent(50));
                let (wall, now) = (self.at(0).wall, self.now);
                if self.hosts[number].client.is_some() {
                    self.hosts[number].crash(until, done, wall, now);
                    self.hang_up(Caller::Host(number));
                    self.sum.crashed += 1;
                }
            }
            if self.chance.below(400) == 0 {
                self.cut.insert(number, self.now + self.chance.below(15_000));
                self.hang_up(Caller::Host(number));
            }
        }
        for number in 0..CONTROLLERS {
            if self.chance.below(150) == 0 && self.members[number].alive.is_some() {
                self.members[number].alive = None;
                self.members[number].restart = Some(self.now + self.chance.below(8_000));
                self.hang_up(Caller::Controller(number));
                self.serverless(Server::Controller(number));
                self.sum.crashed += 1;
            }
            if self.chance.below(200) == 0 {
                self.members[number].cut_until = self.now + self.chance.below(8_000);
            }
        }
        if self.chance.below(150) == 0 && self.relay.is_some() {
            self.relay = None;
            self.relay_restart = Some(self.now + self.chance.below(5_000));
            self.hang_up(Caller::Relay);
            self.serverless(Server::Relay);
            self.sum.crashed += 1;
        }
    }

    pub(super) fn hang_up(&mut self, caller: Caller) {
        let of = self.connections.iter_mut().filter(|it| it.caller == caller);
        of.for_each(|connection| connection.dead = true);
    }

    pub(super) fn serverless(&mut self, server: Server) {
        let of = self.connections.iter_mut().filter(|it| it.server == server);
        of.for_each(|connection| (connection.dead, connection.link) = (true, None));
    }

    /// An operator asks for something.
    pub(super) fn operate(&mut self) {
        if !self.chance.percent(3) {
            return;
        }
        let Some(leader) = self.shared.leader(self.now) else { return };
        if self.now < self.members[leader].cut_until {
            return;
        }
        let wall = self.at(self.members[leader].skew_s).wall;
        let chance = &mut self.chance;
        let Some(controller) = &self.members[leader].alive else { return };
        let model = controller.model();
        let which = chance.place(self.hosts.len());
        let id = &self.hosts[which].id;
        let mut shut = None;
        let batch = match chance.below(12) {
            0..=4 => {
                let Some(bundle) = SIGNED.1.get(self.next) else { return };
                let share = match chance.below(3) {
                    0 => Share::Fraction(2_000),
                    1 => Share::Count(2),
                    _ => Share::Selector("role=web".to_owned()),
                };
                let canary = Canary { share, confirm_s: 10 + chance.below(20) };
                let asked = Apply {
                    bundle,
                    what: "",
                    canary: Some(&canary).filter(|_| chance.percent(70)),
                    force: false,
                    by: "op",
                    stamping: None,
                };
                self.next += 1;
                apply(model, &asked, wall)
            }
            5 | 6 => confirm(model, wall),
            7 => halt(model, "an operator said so"),
            8 => {
                shut = Some(model.host(id).is_some_and(|host| !host.quarantined));
                quarantine(model, id, shut == Some(true))
            }
            _ => {
                let role = *chance.of(&[&"web", &"db", &"cache"]);
                let role = Some(role.to_owned()).filter(|_| chance.percent(80));
                label(model, id, &BTreeMap::from([("role".to_owned(), role)]))
            }
        };
        let Ok(batch) = batch else { return };
        if self.shared.commit(leader, self.now, batch)
            && let Some(shut) = shut
        {
            if shut {
                self.shut_off.insert(which);
            } else {
                self.shut_off.remove(&which);
            }
        }
    }
}
