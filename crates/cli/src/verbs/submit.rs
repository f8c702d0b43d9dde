//! A submission, from arguments to a started job: shared by `start` and `invoke`.

use std::ffi::OsString;

use serde_json::{Value, json};
use sortie::answer::Plan;
use sortie::{Separator, Session};
use sortie_model::quantity::show_duration;
use sortie_model::restart::{RestartSpec, StopSequence};
use sortie_model::spec::{InputSpec, OsBytes, Throttle};
use sortie_model::{IdempotencyKey, JobSpec, JobView};

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::values::os_bytes;
use crate::args::work::{Caller, Work};
use crate::failure::Failure;
use crate::feed::{Feed, Form, List, Source};
use crate::keyboard::Keyboard;
use crate::render::clean::one_line;
use crate::render::fold::fold;
use crate::render::json::{self as shapes, SCHEMA};
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::yaml;

/// A job that can be started: its spec, and its input, open.
pub(super) struct Submission {
    pub(super) spec: JobSpec,
    key: Option<IdempotencyKey>,
    input: Input,
}

enum Input {
    None,
    Bytes(Source),
    Keys(Keyboard),
    Items(List),
}

impl Submission {
    /// Reads the arguments and opens the files that they name. No node is asked.
    pub(super) fn prepare(work: &Work, words: &[OsString], reach: &Reach) -> Result<Self, Failure> {
        let chdir = work.chdir.as_deref();
        let inherits = reach.is_own_node() && work.task.task.is_none();
        let caller = inherits.then(|| Caller::of_process(chdir)).transpose()?;
        let spec = work.spec(words, caller)?;
        let input = match (work.map_from(), work.stdin_from()) {
            (Some(from), _) => {
                let separator = if work.null { Separator::Nul } else { Separator::Newline };
                let form = work.task.format_of_items().map_or(Form::Raw, Form::Input);
                let mut list = List { source: Source::open(&from)?, separator, form };
                list.check()?;
                Input::Items(list)
            }
            (None, Some(from)) => Input::Bytes(Source::open(&from)?),
            (None, None) => Input::None,
        };
        Ok(Self { spec, key: work.key.clone(), input })
    }

    /// The same on a terminal, at which that keyboard is.
    pub(super) fn on_terminal(mut self, keyboard: Keyboard) -> Self {
        self.spec.input = InputSpec::Terminal(keyboard.size());
        let kind = std::env::var_os("TERM").and_then(|kind| os_bytes(&kind).ok());
        if let (Some(kind), Ok(name)) = (kind, OsBytes::try_from("TERM")) {
            // First, so that what the submission says itself counts.
            self.spec.environment.set.insert(0, (name, kind));
        }
        self.input = Input::Keys(keyboard);
        self
    }

    /// Whether it is a map.
    pub(super) const fn is_map(&self) -> bool {
        matches!(self.input, Input::Items(..))
    }

    /// Starts the job; its input is to be fed.
    pub(super) async fn start(self, session: &Session) -> Result<(JobView, Feed), Failure> {
        let Self { spec, key, input } = self;
        match input {
            Input::None => Ok((session.start(spec, key).await?, Feed::None)),
            Input::Bytes(source) => {
                let (view, sender) = session.start_with_input(spec, key).await?;
                Ok((view, Feed::Bytes(source, sender)))
            }
            Input::Keys(keyboard) => {
                let (view, sender) = session.start_on_terminal(spec, key).await?;
                Ok((view, Feed::Keys(keyboard, sender)))
            }
            Input::Items(list) => {
                let (view, sender) = session.start_map(spec, key).await?;
                Ok((view, Feed::Items(list, sender)))
            }
        }
    }

    /// Says what a start would do.
    pub(super) async fn show_plan(self, session: &Session, look: &Look) -> Result<u8, Failure> {
        let plan = session.dry_run(self.spec.clone()).await?;
        let document = document(&plan, &self.spec);
        print(&match look.format() {
            Some(Format::Json | Format::Ndjson) => format!("{document}\n"),
            Some(Format::Yaml) => yaml::to_yaml(&document),
            _ => text(&plan, &self.spec),
        })?;
        Ok(0)
    }
}

fn document(plan: &Plan, spec: &JobSpec) -> Value {
    let mut resolved = shapes::plan(plan);
    if let Value::Object(fields) = &mut resolved {
        let throttle = match spec.throttle {
            Throttle::AtMost(most) => json!(most),
            Throttle::Unlimited => Value::Null,
        };
        fields.insert("command".to_owned(), json!(spec.command));
        fields.insert("throttle".to_owned(), throttle);
        fields.insert("timeout".to_owned(), json!(spec.timeout.map(|limit| limit.as_secs_f64())));
        fields.insert("grace".to_owned(), json!(spec.grace.as_secs_f64()));
        let inherits = spec.environment.inherited.is_some();
        fields.insert("inherits_environment".to_owned(), json!(inherits));
        fields.insert("supervision".to_owned(), supervision(spec));
    }
    json!({ "schema": SCHEMA, "plan": resolved })
}

/// When children start again, and in which order they stop.
fn supervision(spec: &JobSpec) -> Value {
    let RestartSpec { restart, strategy, intensity, backoff } = &spec.restart;
    let period = intensity.period().as_secs_f64();
    json!({
        "restart": restart.to_string(),
        "strategy": strategy.to_string(),
        "intensity": { "restarts": intensity.restarts(), "period": period },
        "restart_delay": backoff.as_ref().map(|backoff| backoff.first().as_secs_f64()),
        "ordered_stop": stops_in_order(spec),
    })
}

fn stops_in_order(spec: &JobSpec) -> bool {
    let sequence = spec.restart.strategy.stop_sequence();
    [spec.stop_sequence, sequence].contains(&StopSequence::OneByOne)
}

/// The same as a sentence; none where nothing of it was asked for.
fn supervision_text(spec: &JobSpec) -> Option<String> {
    let RestartSpec { restart, strategy, intensity, backoff } = &spec.restart;
    let mut text = Vec::new();
    if spec.restart != RestartSpec::default() {
        let (most, period) = (intensity.restarts(), show_duration(intensity.period()));
        text.push(format!("{restart}, {strategy}, at most {most} within {period}"));
        if let Some(backoff) = backoff {
            text.push(format!("after {}", show_duration(backoff.first())));
        }
    }
    if stops_in_order(spec) {
        text.push("stopped one after another".to_owned());
    }
    (!text.is_empty()).then(|| text.join(", "))
}

fn text(plan: &Plan, spec: &JobSpec) -> String {
    let names = |nodes: &[sortie_model::NodeName]| {
        format!("{} ({})", fold(nodes.iter().map(|node| node.as_str())), nodes.len())
    };
    let mut lines = vec![("command", one_line(&spec.command).into_owned())];
    lines.push(("nodes", names(&plan.nodes)));
    if !plan.unreachable.is_empty() {
        lines.push(("unreachable", names(&plan.unreachable)));
    }
    let children = plan.children.map_or("one for each item".to_owned(), |count| count.to_string());
    lines.push(("children", children));
    lines.push((
        "throttle",
        match spec.throttle {
            Throttle::AtMost(most) => most.to_string(),
            Throttle::Unlimited => "unlimited".to_owned(),
        },
    ));
    if let Some(limit) = spec.timeout {
        lines.push(("timeout", show_duration(limit).to_string()));
    }
    if let Some(restarts) = supervision_text(spec) {
        lines.push(("restarts", restarts));
    }
    lines.iter().map(|(word, content)| format!("{word:<12} {content}\n")).collect()
}
