use super::{Shape, View};
use crate::answer::{
    CodeLocation, Function, FunctionConcurrency, FunctionConfiguration, FunctionList, VersionList,
};
use crate::control::Control;
use crate::error::ControlError;
use crate::index;
use crate::page::Page;
use crate::record::VersionRecord;
use crate::request::{GetFunction, ListFunctions, ListVersionsByFunction};
use crate::target::{Suffix, Target};
use lambfold_types::{FunctionName, Scope, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Control {
    /// A function version with its code's digest and its tags.
    ///
    /// # Errors
    /// When there is no such version.
    pub fn get_function(
        &self,
        scope: &Scope,
        request: &GetFunction,
    ) -> Result<Function, ControlError> {
        self.look_up(scope, request, |view, record, function| Function {
            configuration: view.answer(record),
            code: CodeLocation {
                repository_type: "S3",
                location: None,
                digest: record.code.clone(),
            },
            tags: match view.version {
                Version::Latest => function.record.tags.clone(),
                Version::Published(_) => BTreeMap::new(),
            },
            concurrency: function.record.reserved.map(|reserved| FunctionConcurrency {
                reserved_concurrent_executions: Some(reserved),
            }),
        })
    }

    /// A function version.
    ///
    /// # Errors
    /// When there is no such version.
    pub fn get_function_configuration(
        &self,
        scope: &Scope,
        request: &GetFunction,
    ) -> Result<FunctionConfiguration, ControlError> {
        self.look_up(scope, request, |view, record, _| view.answer(record))
    }

    fn look_up<T>(
        &self,
        scope: &Scope,
        request: &GetFunction,
        answer: impl FnOnce(&View<'_>, &VersionRecord, &index::Function) -> T,
    ) -> Result<T, ControlError> {
        let target = Target::parse(scope, &request.function_name, request.qualifier.as_deref())?;
        let name = target.name().ok_or_else(|| target.not_found())?;
        let index = self.index();
        let function = index.function(scope, &name).ok_or_else(|| target.not_found())?;
        let (version, record) = match target.suffix() {
            None | Some(Suffix::Latest) => (Version::Latest, &function.record.latest),
            Some(Suffix::Number(number)) => {
                let published =
                    function.published.get(&number).ok_or_else(|| target.not_found())?;
                (Version::Published(number), &published.record.version)
            }
            Some(Suffix::Other(alias)) => {
                let alias = function.aliases.get(&alias).ok_or_else(|| target.not_found())?;
                let version = alias.record.version;
                (version, function.record_of(version).ok_or_else(|| target.not_found())?)
            }
        };
        let view = View {
            scope,
            name: &name,
            version,
            qualifier: target.qualifier.as_deref(),
            shape: Shape::Settled,
        };
        Ok(answer(&view, record, function))
    }

    /// Functions of a region by name, with `ALL` all their versions.
    ///
    /// # Errors
    /// When the marker is not one of ours.
    pub fn list_functions(
        &self,
        scope: &Scope,
        request: &ListFunctions,
    ) -> Result<FunctionList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let index = self.index();
        let functions = index.scopes.get(scope).map(|region| region.functions.iter());
        let all = request.function_version.as_deref() == Some("ALL");
        let items = functions.into_iter().flatten().flat_map(|(name, function)| {
            let numbers = function.published.keys().filter(move |_| all).copied();
            std::iter::once(Version::Latest)
                .chain(numbers.map(Version::Published))
                .map(move |version| (marker(name, version), (name, function, version)))
        });
        let (functions, next_marker) = page.take(items);
        let functions = functions
            .into_iter()
            .map(|(name, function, version)| listed(scope, name, function, version, all))
            .collect();
        Ok(FunctionList { next_marker, functions })
    }

    /// `$LATEST` and all published versions of a function.
    ///
    /// # Errors
    /// When there is no such function, or the marker is not one of ours.
    pub fn list_versions_by_function(
        &self,
        scope: &Scope,
        request: &ListVersionsByFunction,
    ) -> Result<VersionList, ControlError> {
        let page = Page::new(request.marker.as_deref(), request.max_items)?;
        let (name, function) = self.function(scope, &request.function_name)?;
        let numbers = function.published.keys().copied().map(Version::Published);
        let items = std::iter::once(Version::Latest)
            .chain(numbers)
            .map(|version| (marker(&name, version), version));
        let (versions, next_marker) = page.take(items);
        let versions = versions
            .into_iter()
            .map(|version| listed(scope, &name, &function, version, true))
            .collect();
        Ok(VersionList { next_marker, versions })
    }
}

/// Sorts as the list does: by name, `$LATEST` first, then by number.
fn marker(name: &FunctionName, version: Version) -> Vec<u8> {
    let number = match version {
        Version::Latest => 0,
        Version::Published(number) => number,
    };
    let mut key = name.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend(number.to_be_bytes());
    key
}

fn listed(
    scope: &Scope,
    name: &FunctionName,
    function: &Arc<index::Function>,
    version: Version,
    qualified: bool,
) -> FunctionConfiguration {
    let record = match version {
        Version::Latest => &function.record.latest,
        Version::Published(number) => function
            .published
            .get(&number)
            .map_or(&function.record.latest, |published| &published.record.version),
    };
    let text = version.to_string();
    let qualifier = qualified.then_some(text.as_str());
    View { scope, name, version, qualifier, shape: Shape::Listed }.answer(record)
}
