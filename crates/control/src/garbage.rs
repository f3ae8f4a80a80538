//! Blobs and trees that nothing names: left by interrupted uploads and replaced code.

use crate::code::blocking;
use crate::control::Control;
use crate::error::ControlError;
use crate::record::VersionRecord;
use lambfold_package::{Live, PackageError};
use lambfold_types::Digest;
use std::collections::HashSet;
use std::time::Duration;

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage {
    /// Zips.
    pub blobs: usize,
    /// Unpacked trees and merged lists of layers.
    pub trees: usize,
}

impl Control {
    /// Removes blobs and trees that no function version and no layer version names. Trees that
    /// an environment holds, or that were used within `grace`, stay. Uploads wait meanwhile.
    ///
    /// # Errors
    /// When the disk fails; what was removed stays removed.
    pub async fn collect_garbage(&self, grace: Duration) -> Result<Garbage, ControlError> {
        let control = self.clone();
        self.detached(async move {
            let _intake = control.0.intake.write().await;
            let live = control.live();
            let mut blobs = 0;
            for digest in control.0.store.list_blobs().await? {
                if !live.contains(&digest) {
                    control.0.store.delete_blob(&digest).await?;
                    blobs += 1;
                }
            }
            let lists = control.lists();
            let trees = control.0.trees.clone();
            let trees = blocking(move || trees.retain(&Live { trees: live, lists }, grace))
                .await?
                .map_err(|source| {
                    let step = "remove trees that nothing names".to_owned();
                    ControlError::Package(PackageError::Io { step, source })
                })?;
            Ok(Garbage { blobs, trees })
        })
        .await
    }

    /// Makes trees that are named and missing, from their zips.
    pub(crate) async fn mend(&self) {
        for digest in self.live() {
            if self.0.trees.contains(&digest) {
                continue;
            }
            let mended = match self.0.store.open_blob(&digest).await {
                Ok(Some(file)) => {
                    let trees = self.0.trees.clone();
                    match blocking(move || trees.add(&file)).await {
                        Ok(added) => added.map(|_| ()).map_err(ControlError::from),
                        Err(error) => Err(error),
                    }
                }
                Ok(None) => Err(ControlError::BlobMissing { digest: digest.to_string() }),
                Err(error) => Err(error.into()),
            };
            match mended {
                Ok(()) => tracing::info!(digest = %digest, "a missing tree was unpacked anew"),
                Err(error) => {
                    tracing::error!(digest = %digest, error = %error, cause = ?error, "a tree is missing and cannot be made; functions that use it fail until their code is uploaded anew");
                }
            }
        }
        for list in self.lists() {
            let trees = self.0.trees.clone();
            match blocking(move || trees.merge(&list)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = %error, cause = ?error, "the layers of a function cannot be merged");
                }
                Err(error) => {
                    tracing::error!(error = %error, "the layers of a function cannot be merged")
                }
            }
        }
    }

    /// Digests that documents name.
    pub(crate) fn live(&self) -> HashSet<Digest> {
        let index = self.index();
        let mut live = HashSet::new();
        for record in versions(&index) {
            live.extend(record.digests().cloned());
        }
        for layer in index.layers() {
            live.extend(layer.versions.values().map(|version| version.code.clone()));
        }
        live
    }

    /// Lists of layers that functions use.
    fn lists(&self) -> HashSet<Vec<Digest>> {
        versions(&self.index())
            .filter(|record| !record.layers.is_empty())
            .map(|record| record.layers.iter().map(|layer| layer.code.clone()).collect())
            .collect()
    }
}

fn versions(index: &crate::index::Index) -> impl Iterator<Item = &VersionRecord> {
    index.functions().flat_map(|function| {
        std::iter::once(&function.record.latest)
            .chain(function.published.values().map(|published| &published.record.version))
    })
}
