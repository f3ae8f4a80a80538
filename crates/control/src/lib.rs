//! Control-plane operations as functions over the store
