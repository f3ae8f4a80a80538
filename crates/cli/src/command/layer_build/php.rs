//! The PHP layer: the bootstrap, php-cgi and php, their extensions, and what PHP looks for by path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::contents::Contents;
use super::libraries::read;
use super::root::{Found, Root};
use super::{BuildError, missing, program};

pub(super) const FOLDER: &str = "lambfold-php";

const TIME_ZONES: &str = "/usr/share/zoneinfo";
/// As long as what it takes the place of.
const LAYER_TIME_ZONES: &str = "z";

const SETTINGS: &str = "; The place of this file keeps PHP from reading the system's php.ini. Settings are in conf.d and,\n\
    ; for a function, in its own php.ini and php/conf.d.\n";

pub(super) fn add(contents: &mut Contents<'_>, root: &Root) -> Result<(), BuildError> {
    let programs = ["php-cgi", "php"];
    let [Some(cgi), Some(cli)] = programs.map(|name| program(root, name)) else {
        let absent: Vec<_> =
            programs.into_iter().filter(|name| program(root, name).is_none()).collect();
        return Err(missing(root, &absent, &["php-cgi", "php-cli"]));
    };
    contents.program(&format!("{FOLDER}/bin/php-cgi"), &cgi)?;
    contents.program(&format!("{FOLDER}/bin/php"), &cli)?;
    contents.link("bin/php-cgi", "../lambfold-php/bin/php-cgi")?;
    contents.link("bin/php", "../lambfold-php/bin/php")?;
    contents.own(&format!("{FOLDER}/php.ini"), SETTINGS.as_bytes().to_vec(), false)?;

    let shown = root.shown(&cgi.path);
    let binary = read(&cgi, &shown).map_err(super::contents::ContentsError::from)?;
    let mut settings =
        String::from("; Nothing of the system around is used.\ninclude_path = \".\"\n");
    add_extensions(contents, root, &cgi, &cli, &binary, &mut settings)?;
    add_time_zones(contents, root, &binary)?;
    add_character_sets(contents, root)?;
    if let Some(path) = contents.certificates()? {
        settings.push_str(&format!("openssl.cafile = \"{path}\"\ncurl.cainfo = \"{path}\"\n"));
    }
    contents.own(&format!("{FOLDER}/conf.d/00-layer.ini"), settings.into_bytes(), false)?;
    Ok(())
}

/// Adds the extensions that are on in the system, and the settings that turn them on.
fn add_extensions(
    contents: &mut Contents<'_>,
    root: &Root,
    cgi: &Found,
    cli: &Found,
    binary: &[u8],
    settings: &mut String,
) -> Result<(), BuildError> {
    let mut files: BTreeMap<String, Found> = BTreeMap::new();
    for folder in settings_folders(cgi, cli) {
        for name in root.names(&folder) {
            if let (true, Some(found)) = (name.ends_with(".ini"), root.file(&folder.join(&name))) {
                files.entry(name).or_insert(found);
            }
        }
    }
    let folder = extension_folder(root, binary);
    let mut has_extensions = false;
    for (name, found) in &files {
        let text = root.text(&found.path).unwrap_or_default();
        let mut kept = String::new();
        for line in text.lines() {
            match extension(line) {
                None => kept.push_str(line),
                Some((setting, extension)) => {
                    let library =
                        extension_file(root, folder.as_deref(), extension).ok_or_else(|| {
                            BuildError::Extension {
                                extension: extension.to_owned(),
                                settings: root.shown(&found.path),
                            }
                        })?;
                    let file = library.path.file_name().unwrap_or_default().to_string_lossy();
                    contents.library(&format!("{FOLDER}/extensions/{file}"), &library)?;
                    has_extensions = true;
                    kept.push_str(&format!("{setting}={file}"));
                }
            }
            kept.push('\n');
        }
        contents.changed(&format!("{FOLDER}/conf.d/{name}"), kept.into_bytes(), found)?;
    }
    if has_extensions {
        settings.push_str(&format!("extension_dir = \"/opt/{FOLDER}/extensions\"\n"));
    }
    Ok(())
}

/// Debian's, by the version in the programs' names, and that of others.
fn settings_folders(cgi: &Found, cli: &Found) -> Vec<PathBuf> {
    let version = |found: &Found, name: &str| {
        let file = found.path.file_name()?.to_str()?.to_owned();
        Some(file.strip_prefix(name)?.to_owned())
    };
    let mut folders = Vec::new();
    for (found, name, kind) in [(cgi, "php-cgi", "cgi"), (cli, "php", "cli")] {
        if let Some(version) = version(found, name).filter(|version| !version.is_empty()) {
            folders.push(PathBuf::from(format!("/etc/php/{version}/{kind}/conf.d")));
        }
    }
    folders.push(PathBuf::from("/etc/php.d"));
    folders
}

/// The folder of extensions that the program is built with: of those that there are, the one whose
/// path stands in it.
fn extension_folder(root: &Root, binary: &[u8]) -> Option<PathBuf> {
    let parents = ["/usr/lib/php", "/usr/lib64/php", "/usr/lib/php/extensions"];
    let folders = parents
        .iter()
        .flat_map(|parent| root.names(Path::new(parent)).into_iter().map(move |n| (parent, n)))
        .map(|(parent, name)| PathBuf::from(format!("{parent}/{name}")));
    let stands_in = |folder: &PathBuf| {
        // With its end, since one may be the beginning of another.
        let text = format!("{}\0", folder.display());
        binary.windows(text.len()).any(|window| window == text.as_bytes())
    };
    folders.filter(|folder| root.directory(folder).is_some()).find(stands_in)
}

/// `extension=NAME` and `zend_extension=NAME`, which is a name, a file's name or a path.
fn extension(line: &str) -> Option<(&str, &str)> {
    let (setting, value) = line.split_once('=')?;
    let value = value.split(';').next().unwrap_or_default().trim().trim_matches('"');
    let setting = setting.trim();
    (matches!(setting, "extension" | "zend_extension") && !value.is_empty())
        .then_some((setting, value))
}

fn extension_file(root: &Root, folder: Option<&Path>, name: &str) -> Option<Found> {
    if name.starts_with('/') {
        return root.file(Path::new(name));
    }
    let folder = folder?;
    root.file(&folder.join(name)).or_else(|| root.file(&folder.join(format!("{name}.so"))))
}

/// A PHP that is built to use the system's time zones dies without them.
fn add_time_zones(
    contents: &mut Contents<'_>,
    root: &Root,
    binary: &[u8],
) -> Result<(), BuildError> {
    let uses = binary.windows(TIME_ZONES.len()).any(|window| window == TIME_ZONES.as_bytes());
    if !uses {
        return Ok(());
    }
    let top = Path::new(TIME_ZONES);
    let mut pending: Vec<PathBuf> = root.names(top).iter().map(PathBuf::from).collect();
    if pending.is_empty() {
        return Err(missing(root, &[TIME_ZONES], &["tzdata"]));
    }
    let mut added = 0;
    while let Some(name) = pending.pop() {
        let path = top.join(&name);
        if root.directory(&path).is_some() {
            // The same zones once more, with leap seconds and without.
            if !["right", "posix"].iter().any(|twice| name == Path::new(twice)) {
                pending.extend(root.names(&path).iter().map(|below| name.join(below)));
            }
        } else if name != Path::new("localtime")
            && let Some(found) = root.file(&path)
        {
            contents.data(&format!("{FOLDER}/{LAYER_TIME_ZONES}/{}", name.display()), &found)?;
            added += 1;
        }
    }
    if added == 0 || !contents.redirect(TIME_ZONES, &format!("/opt/{FOLDER}/{LAYER_TIME_ZONES}")) {
        return Err(missing(root, &[TIME_ZONES], &["tzdata"]));
    }
    Ok(())
}

/// The conversions of the C library, which iconv() of PHP uses.
fn add_character_sets(contents: &mut Contents<'_>, root: &Root) -> Result<(), BuildError> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib/aarch64-linux-gnu/gconv", "/usr/lib64/gconv"];
    let Some(folder) = folders.iter().find(|f| root.directory(Path::new(f)).is_some()) else {
        return Ok(());
    };
    if !contents.redirect(folder, &format!("/opt/{FOLDER}/gconv")) {
        crate::output::warn(&format!(
            "the character sets of {folder} are left out, since programs cannot be told where they are: iconv() knows those that a function's system has"
        ));
        return Ok(());
    }
    let mut pending = vec![PathBuf::new()];
    while let Some(name) = pending.pop() {
        let path = Path::new(folder).join(&name);
        if root.directory(&path).is_some() {
            pending.extend(root.names(&path).iter().map(|below| name.join(below)));
            continue;
        }
        let Some(found) = root.file(&path) else { continue };
        let to = format!("{FOLDER}/gconv/{}", name.display());
        match name.extension().is_some_and(|extension| extension == "so") {
            true => contents.library(&to, &found)?,
            false => contents.data(&to, &found)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_extensions() {
        for (line, expected) in [
            ("extension=ctype.so", Some(("extension", "ctype.so"))),
            ("extension = ctype ; why", Some(("extension", "ctype"))),
            ("zend_extension=\"opcache.so\"", Some(("zend_extension", "opcache.so"))),
            ("; extension=no", None),
            ("opcache.jit=off", None),
            ("extension_dir=/x", None),
            ("extension=", None),
        ] {
            assert_eq!(extension(line), expected, "{line}");
        }
    }

    #[test]
    fn the_place_of_time_zones_is_as_long_as_the_systems() {
        let place = format!("/opt/{FOLDER}/{LAYER_TIME_ZONES}");
        assert!(place.len() <= TIME_ZONES.len(), "{place}");
    }
}
