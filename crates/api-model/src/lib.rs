//! The AWS service model, reduced: routing, validation, exception names, wire shapes
