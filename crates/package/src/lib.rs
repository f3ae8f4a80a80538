//! Zips in (hostile until proven), immutable trees out; layer merge; deterministic zips out
