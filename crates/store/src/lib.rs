//! Revisioned documents, blobs and the durable event queue; embedded SQLite backend
