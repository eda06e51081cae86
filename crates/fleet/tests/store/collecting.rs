//! Versions are applied and their documents collected at the same time, as controllers do both, on a real store.

use controller::{
    Batch, Model, Refusal,
    limits::STEPS_MAX,
    orders::{Apply, Keep, apply, collect, found, idle},
};
use fleet::store::{self, CommitError, Leadership, Store};

use crate::{
    people::{Making, at, policy, root_bytes},
    promises::{lead, soon},
};

/// Versions that are applied: more than hosts may be left with, so that the documents of the first are needed no more.
const VERSIONS: u64 = STEPS_MAX as u64 + 4;

/// Nothing that hosts are to have is ever missing, and in the end the documents of old versions are gone.
pub(crate) async fn no_piece_of_a_version_goes_while_it_is_applied(store: Store) {
    let leading = lead(&store, "a").await;
    commit(&leading, found(&Model::default(), &root_bytes()).unwrap()).await.unwrap();
    let keep = Keep { versions: 1, idle_ms: 0 };
    let applying = async {
        for version in 1..=VERSIONS {
            let text = format!("deny any -> 192.0.2.{version} : any\n");
            let documents = [
                policy("base", version, &text),
                policy("same", 1, "deny any -> 203.0.113.0/24 : any\n"),
            ];
            let bundle = Making::of(&documents).numbered(version).bytes();
            loop {
                let model = model(&store).await;
                let asked = Apply {
                    bundle: &bundle,
                    what: "",
                    canary: None,
                    force: false,
                    by: "op",
                    stamping: None,
                };
                let batch = match apply(&model, &asked, at(1)) {
                    Ok(batch) => batch,
                    Err(Refusal::Same(_)) => break,
                    Err(other) => panic!("{other}"),
                };
                // Whoever collects gets its turn in between.
                tokio::task::yield_now().await;
                match commit(&leading, batch).await {
                    Ok(()) => break,
                    Err(CommitError::Conflict(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    let collecting = async {
        let mut collected = 0;
        loop {
            let model = model(&store).await;
            whole(&model);
            if let Some(batch) = collect(&model, &idle(&model, keep)) {
                tokio::task::yield_now().await;
                match commit(&leading, batch).await {
                    Ok(()) => collected += 1,
                    Err(CommitError::Conflict(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            } else if model.versions().count() as u64 == VERSIONS {
                return collected;
            }
        }
    };
    let ((), collected) = soon("both", async { tokio::join!(applying, collecting) }).await;
    let model = model(&store).await;
    whole(&model);
    assert_eq!(model.collected().map_or(0, |record| record.batches), collected);
    assert!(0 < collected, "something was collected");
    assert_eq!(idle(&model, keep).len(), 0);
}

fn whole(model: &Model) {
    for step in model.current().into_iter().flat_map(|current| &current.steps) {
        let version = model.version(step.version).unwrap();
        assert!(model.is_whole(version), "version {} lacks a piece", step.version);
    }
}

async fn model(store: &Store) -> Model {
    Model::load(soon("a load", store.load()).await.unwrap().records).unwrap()
}

async fn commit(leading: &Leadership, batch: Batch) -> Result<(), CommitError> {
    let Batch { pieces, expect, put, remove } = batch;
    let expect = expect.into_iter().map(|(key, digest)| (key, digest.map(|it| it.0))).collect();
    let batch = store::Batch { pieces, expect, put, remove };
    soon("a commit", leading.commit(&batch)).await.map(|_revision| ())
}
