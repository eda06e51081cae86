//! Where a controller's targets and pieces come from: its model and its views.

use std::sync::Arc;

use crate::{
    digest::Digest,
    model::Model,
    orders::is_of,
    serving::{Assigned, Find, Source, Wanted},
    views::Views,
};

pub(super) struct Sources<'a> {
    pub(super) model: &'a Model,
    pub(super) views: &'a mut Views,
}

impl Source for Sources<'_> {
    fn admits(&self, id: &str, certificate: &Digest) -> Result<Arc<str>, String> {
        let known = self.model.host(id).zip(self.views.number(id));
        let Some((host, number)) = known else { return Err(format!("`{id}` is not enrolled")) };
        if !is_of(*certificate, host.certificate, host.previous) {
            return Err(format!("the certificate of `{id}` was replaced or revoked"));
        }
        Ok(self.views.id(number).map_or_else(|| id.into(), Arc::clone))
    }

    fn knows(&self, id: &str) -> Result<Arc<str>, String> {
        let known = self.views.number(id).and_then(|number| self.views.id(number));
        known.map_or_else(|| Err(format!("`{id}` is not enrolled")), |id| Ok(Arc::clone(id)))
    }

    fn admits_relay(&self, name: &str, certificate: &Digest) -> Result<(), String> {
        match self.model.relay(name) {
            None => Err(format!("the relay `{name}` is not enrolled")),
            Some(relay) if is_of(*certificate, relay.certificate, relay.previous) => Ok(()),
            Some(_) => {
                Err(format!("the certificate of the relay `{name}` was replaced or revoked"))
            }
        }
    }

    fn target(&mut self, id: &str) -> Wanted {
        let Some(number) = self.views.number(id) else {
            return Wanted::Refused(format!("`{id}` is not enrolled any more"));
        };
        match self.views.target(number) {
            None => Wanted::Nothing,
            Some(target) => Wanted::Target(Assigned {
                manifest: target.manifest,
                manifest_digest: target.manifest_digest,
                me: target.me,
                digest: target.digest,
            }),
        }
    }

    fn manifest(&mut self, id: &str) -> Option<(Arc<[u8]>, Digest)> {
        let target = self.views.target(self.views.number(id)?)?;
        Some((target.manifest, target.manifest_digest))
    }

    fn piece(&mut self, digest: &Digest) -> Find {
        self.views.piece(digest).or_else(|| self.model.piece(digest)).map_or(Find::Lost, Find::Here)
    }

    fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>> {
        let hosts = self.views.difference(base, digest);
        hosts.or_else(|| self.views.difference_of_snapshots(base, digest, self.model))
    }
}
