use crate::table::Model;
use std::fmt::Write as _;

macro_rules! built {
    ($($name:ident),+ $(,)?) => {
        /// The operations that are built. Whoever dispatches on it must have an arm for each:
        /// the compiler holds the list and the handlers together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Built {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )+
        }

        impl Built {
            /// All of them, by name.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The built operation of that name; `None` when it is not built.
            #[must_use]
            pub fn find(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

built!(
    CreateAlias,
    CreateFunction,
    DeleteAlias,
    DeleteFunction,
    DeleteFunctionConcurrency,
    DeleteLayerVersion,
    DeleteProvisionedConcurrencyConfig,
    GetAccountSettings,
    GetAlias,
    GetFunction,
    GetFunctionConcurrency,
    GetFunctionConfiguration,
    GetLayerVersion,
    GetLayerVersionByArn,
    GetProvisionedConcurrencyConfig,
    Invoke,
    InvokeWithResponseStream,
    ListAliases,
    ListFunctions,
    ListLayerVersions,
    ListLayers,
    ListProvisionedConcurrencyConfigs,
    ListTags,
    ListVersionsByFunction,
    PublishLayerVersion,
    PublishVersion,
    PutFunctionConcurrency,
    PutProvisionedConcurrencyConfig,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateFunctionCode,
    UpdateFunctionConfiguration,
);

/// The text of `docs/compatibility.md`: a row an operation.
#[must_use]
pub fn compatibility_page() -> String {
    let model = Model::get();
    let total = model.operations().len();
    let built = Built::ALL.len();
    let mut page = format!(
        "# Compatibility with the AWS Lambda API\n\n\
        Generated from the service model ({}) by `cargo run -p lambfold-xtask -- compatibility`; \
        do not edit.\n\n\
        {built} of {total} operations are built. Every operation is routed and its input is \
        validated in AWS's wording; one that is not built answers 501 `NotImplementedException` \
        at once, naming itself.\n\n\
        | operation | method | path | state |\n|---|---|---|---|\n",
        model.source()
    );
    for operation in model.operations() {
        let state = match Built::find(&operation.name) {
            Some(_) => "built",
            None => "not built (501)",
        };
        let _ = writeln!(
            page,
            "| {} | {} | `{}` | {state} |",
            operation.name, operation.method, operation.uri
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_operations_are_in_the_model_and_sorted() {
        let names: Vec<&str> = Built::ALL.iter().map(|built| built.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for (built, name) in Built::ALL.iter().zip(&names) {
            assert!(Model::get().operation(name).is_some(), "{name}");
            assert_eq!(Built::find(name), Some(*built));
        }
    }

    #[test]
    fn the_compatibility_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let command = "cargo run -p lambfold-xtask -- compatibility";
        assert!(page == compatibility_page(), "docs/compatibility.md is stale: run `{command}`");
    }
}
