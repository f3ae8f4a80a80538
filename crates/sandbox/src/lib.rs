//! Linux isolation: a specification in, a handle out; the only crate with unsafe code; knows no Lambda word
