//! The store from outside: one suite for every backend, durability, crashes.
#![allow(clippy::unwrap_used)]

#[path = "store/crash.rs"]
mod crash;
#[path = "store/durable.rs"]
mod durable;
#[path = "store/memory.rs"]
mod memory;
#[path = "store/power.rs"]
mod power;
#[path = "store/random.rs"]
mod random;
#[path = "store/suite.rs"]
mod suite;
#[path = "store/workload.rs"]
mod workload;

/// A store and the folder that it lives in.
struct Kept {
    store: lambfold_store::Store,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Kept {
    type Target = lambfold_store::Store;
    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

fn on_disk() -> Kept {
    let dir = tempfile::tempdir().unwrap();
    Kept { store: lambfold_store::Store::open(dir.path()).unwrap(), _dir: dir }
}

mod disk {
    crate::suite::cases!(&*crate::on_disk());
}
mod ephemeral {
    crate::suite::cases!(&lambfold_store::Store::ephemeral().unwrap());
}
/// The model that random batches are compared with is held to the same suite.
mod model {
    crate::suite::cases!(&crate::memory::Memory::default());
}
