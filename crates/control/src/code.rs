//! Zips on their way in: blob and tree first, so that a document never names what is not there.

use crate::control::Control;
use crate::error::ControlError;
use crate::request::Code;
use bytes::Bytes;
use lambfold_package::TreeInfo;
use lambfold_types::{Digest, LayerUse, Scope, limits};
use std::io::Cursor;

/// The zip of a request.
pub(crate) fn zip(code: Code) -> Result<Bytes, ControlError> {
    let Code { zip_file, s3_bucket, image_uri, source_kms_key_arn } = code;
    if s3_bucket.is_some() {
        return Err(ControlError::NotBuilt { feature: "Code from S3 (S3Bucket)" });
    }
    if image_uri.is_some() {
        return Err(ControlError::NotBuilt { feature: "Code from an image (ImageUri)" });
    }
    if source_kms_key_arn.is_some_and(|arn| !arn.is_empty()) {
        return Err(ControlError::NotBuilt { feature: "SourceKMSKeyArn" });
    }
    let zip = zip_file
        .ok_or_else(|| ControlError::invalid("Please provide a source for function code."))?
        .0;
    if zip.len() as u64 > limits::DIRECT_UPLOAD_BYTES {
        return Err(ControlError::TooLarge { limit: limits::DIRECT_UPLOAD_BYTES });
    }
    Ok(zip)
}

/// Bytes of a zip in memory, as a reader.
fn reader(zip: Bytes) -> Cursor<Bytes> {
    Cursor::new(zip)
}

impl Control {
    /// Opens a stored zip for reading, from its beginning.
    ///
    /// # Errors
    /// [`ControlError::BlobMissing`] when it is gone.
    pub async fn open_code(&self, digest: &Digest) -> Result<std::fs::File, ControlError> {
        let file = self.0.store.open_blob(digest).await?;
        file.ok_or_else(|| ControlError::BlobMissing { digest: digest.to_string() })
    }

    /// Stores the zip and its tree, both durable. The caller holds the intake lock until a
    /// document names them.
    pub(crate) async fn take_in(
        &self,
        scope: &Scope,
        zip: Bytes,
    ) -> Result<TreeInfo, ControlError> {
        let used = self.index().scopes.get(scope).map_or(0, |region| region.code_bytes());
        if used + zip.len() as u64 > limits::CODE_STORAGE_BYTES {
            return Err(ControlError::CodeStorageExceeded);
        }
        let (digest, _) = self.0.store.put_blob(reader(zip)).await?;
        let file = self
            .0
            .store
            .open_blob(&digest)
            .await?
            .ok_or_else(|| ControlError::BlobMissing { digest: digest.to_string() })?;
        let trees = self.0.trees.clone();
        let added = blocking(move || trees.add(&file)).await?;
        match added {
            Ok(info) => Ok(info),
            Err(error) => {
                // A zip that is refused is refused whoever sends it, so nothing names it, unless
                // the limits were wider once.
                if error.rejection().is_some() && !self.names(&digest) {
                    self.0.store.delete_blob(&digest).await?;
                }
                Err(error.into())
            }
        }
    }

    /// True when a stored document names the digest.
    pub(crate) fn names(&self, digest: &Digest) -> bool {
        self.live().contains(digest)
    }

    /// Makes the `/opt` of a list of layers, so that the first invocation need not.
    pub(crate) async fn merge(&self, layers: &[LayerUse]) -> Result<(), ControlError> {
        if layers.is_empty() {
            return Ok(());
        }
        let list: Vec<Digest> = layers.iter().map(|layer| layer.code.clone()).collect();
        let trees = self.0.trees.clone();
        blocking(move || trees.merge(&list)).await??;
        Ok(())
    }
}

/// Code and layers together.
pub(crate) fn check_unpacked(code_bytes: u64, layers: &[LayerUse]) -> Result<(), ControlError> {
    let sum = code_bytes + layers.iter().map(|layer| layer.unpacked_bytes).sum::<u64>();
    if sum > limits::UNPACKED_BYTES {
        return Err(ControlError::invalid(format!(
            "Function code combined with layers exceeds the maximum allowed size of {} bytes. The actual size is {sum} bytes.",
            limits::UNPACKED_BYTES
        )));
    }
    Ok(())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ControlError::Interrupted)
}
