use crate::args::{EventsGenerate, EventsList, Format};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_events::{Change, Sample};
use serde_json::{Value, json};

pub(crate) fn list(args: &EventsList) -> Result<Exit, Failure> {
    let samples = Sample::all();
    match args.printing.format {
        Format::Text => {
            let width = |of: fn(&Sample) -> &str| {
                samples.iter().map(|sample| of(sample).len()).max().unwrap_or_default()
            };
            let (name, source) = (width(|s| s.name), width(|s| s.source));
            let lines = samples
                .iter()
                .map(|s| format!("{:<name$}  {:<source$}  {}\n", s.name, s.source, s.description));
            output::data(lines.collect::<String>().as_bytes())?;
            output::hint("print one: lambfold events generate NAME");
        }
        Format::Json => {
            let all = samples
                .iter()
                .map(|s| json!({"Name": s.name, "Source": s.source, "Description": s.description}));
            output::json(&all.collect())?;
        }
    }
    Ok(Exit::Done)
}

/// The event is JSON in both formats.
pub(crate) fn generate(args: &EventsGenerate) -> Result<Exit, Failure> {
    output::json(&event(&args.name, &args.changes)?)?;
    Ok(Exit::Done)
}

/// The event of a name, with its changes.
pub(super) fn event(name: &str, changes: &[String]) -> Result<Value, Failure> {
    let sample = Sample::named(name).ok_or_else(|| unknown(name))?;
    let changes: Result<Vec<_>, _> = changes.iter().map(|text| Change::parse(text)).collect();
    let event = changes.and_then(|changes| sample.generate(&changes));
    event.map_err(|error| {
        Failure::usage("--set cannot be done")
            .cause(&error)
            .hint(format!("see what can be set: lambfold events generate {name}"))
    })
}

fn unknown(name: &str) -> Failure {
    let words: Vec<_> = name.split('-').filter(|word| word.len() > 1).collect();
    let like = |sample: &&Sample| words.iter().any(|word| sample.name.contains(word));
    let like: Vec<_> = Sample::all().iter().filter(like).map(|sample| sample.name).collect();
    let failure = Failure::usage(format!("there is no sample event {name:?}"));
    if like.is_empty() {
        failure.hint("list them: lambfold events list")
    } else {
        failure.hint(format!("there is {}", like.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let hints = |name: &str| unknown(name).lines().map(|(_, text)| text.to_owned()).nth(1);
        assert_eq!(
            hints("s3"),
            Some("there is s3-put, s3-delete, s3-batch-operations, s3-object-lambda".into())
        );
        assert_eq!(hints("x"), Some("list them: lambfold events list".into()));
    }
}
