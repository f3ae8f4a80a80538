//! Any text as a name or an ARN: no panic, and what is accepted is written as it was read.
#![no_main]

use lambfold_types::{FunctionRef, LayerVersionArn, Qualifier, Region};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = FunctionRef::parse(text);
    let _ = Region::parse(text);
    if let Ok(arn) = LayerVersionArn::parse(text) {
        assert_eq!(arn.to_string(), text);
    }
    if let Ok(qualifier) = Qualifier::parse(text) {
        // Version numbers lose their leading zeros.
        assert_eq!(Qualifier::parse(&qualifier.to_string()).as_ref(), Ok(&qualifier));
    }
});
