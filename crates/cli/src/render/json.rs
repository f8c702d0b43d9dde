//! The JSON shapes (`docs/cli.md`, section 4). They are a contract: fields are added, never
//! changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use sortie::answer::{
    ChildExplanation, Event, Explanation, Failure, Happening, Plan, Source, Trouble,
};
use sortie_model::{Body, ChildView, JobView, NodeView, Question, Reason, Record, Timestamp};

use crate::program::with_own_name;
use crate::render::clean::line_of_bytes;
use crate::render::value::value_of;

/// The version of every shape.
pub(crate) const SCHEMA: u32 = 1;

/// A document: the schema, then one field.
pub(crate) fn document(field: &str, value: Value) -> Value {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(SCHEMA));
    document.insert(field.to_owned(), value);
    Value::Object(document)
}

/// A job.
pub(crate) fn job(view: &JobView) -> Value {
    let tally = &view.tally;
    let mut object = json!({
        "id": view.id.0,
        "instance_id": view.instance.to_string(),
        "name": view.name,
        "kind": view.kind.as_str(),
        "state": view.state.as_json(),
        "has_more_data": view.has_more_data,
        "location": view.location,
        "command": view.command,
        "created": view.created.to_string(),
        "begin_time": time(view.begin_time),
        "end_time": time(view.end_time),
        "reason": null,
        "exit_code": null,
        "with_errors": view.with_errors,
        "session": view.session.0,
        "progress": {
            "done": tally.finished(),
            "total": if tally.open { Value::Null } else { json!(tally.total()) },
            "failed": tally.of(sortie_model::State::Failed),
            "running": tally.of(sortie_model::State::Running),
        },
        "children_total": tally.total(),
        "stopped_by": view.stopped_by,
        "stop_pending": view.stop_pending.iter().map(|node| node.as_str()).collect::<Vec<_>>(),
        "notes": view.notes,
        "restarts": view.restarts,
        "paused": view.paused,
    });
    if let (Value::Object(fields), false) = (&mut object, view.children.is_empty()) {
        let ids: Vec<u64> = view.children.iter().map(|id| id.0).collect();
        fields.insert("children".to_owned(), json!(ids));
    }
    object
}

/// A child.
pub(crate) fn child(view: &ChildView) -> Value {
    json!({
        "id": view.id.0,
        "instance_id": view.instance.to_string(),
        "name": child_name(view),
        "kind": null,
        "state": view.state.as_json(),
        "has_more_data": view.has_more_data,
        "location": view.location,
        "command": view.command,
        "begin_time": time(view.begin_time),
        "end_time": time(view.end_time),
        "reason": view.reason.as_ref().map(reason),
        "exit_code": view.exit_code,
        "signal": view.signal,
        "with_errors": view.with_errors,
        "parent": view.parent.0,
        "ordinal": view.ordinal.0,
        "progress": view.progress.map(|at| json!({ "done": at.done, "total": at.total })),
        "queue_position": view.queue_position,
        "unread_bytes": view.unread_bytes,
        "notes": view.notes,
        "restarts": view.restarts,
        "dropped_records": view.dropped_records,
        "dropped_bytes": view.dropped_bytes,
        "paused": view.paused,
        "question": view.question.as_ref().map(question),
    })
}

/// What a child asks.
fn question(question: &Question) -> Value {
    json!({
        "number": question.number.0,
        "prompt": question.prompt,
        "time": time(Some(question.time)),
    })
}

/// A child's name: children are always `Job<id>`.
pub(crate) fn child_name(view: &ChildView) -> String {
    format!("Job{}", view.id)
}

/// Why a child failed: the code, the sentence, and the code's details.
pub(crate) fn reason(reason: &Reason) -> Value {
    let mut object = json!({
        "code": reason.code(),
        "message": reason.to_string(),
        "is_retryable": reason.is_retryable(),
    });
    if let (Value::Object(fields), Value::Object(details)) = (&mut object, details(reason)) {
        fields.extend(details);
    }
    object
}

fn details(reason: &Reason) -> Value {
    match reason {
        Reason::Exit { code } => json!({ "exit_code": code }),
        Reason::Signal { number, name, core_dumped } => {
            json!({ "signal": number, "name": name, "core_dumped": core_dumped })
        }
        Reason::Spawn { step, errno } => json!({ "step": step.to_string(), "errno": errno }),
        Reason::Error { kind, message } => json!({ "type": kind, "error": message }),
        Reason::Panic { message } => json!({ "error": message }),
        Reason::Timeout { limit } => json!({ "limit": limit.as_secs_f64() }),
        Reason::Denied { rule } => json!({ "rule": rule }),
        Reason::Unreachable { step } => json!({ "step": step.to_string() }),
        Reason::NodeLost { since } => json!({ "since": since.to_string() }),
        Reason::RestartLimit { restarts, period, last } => {
            json!({ "restarts": restarts, "period": period.as_secs_f64(), "last": last })
        }
        Reason::Limit { which } => json!({ "which": which.to_string() }),
        Reason::UnknownTask { name }
        | Reason::TaskTypes { name }
        | Reason::NoBackground { name } => json!({ "task": name }),
        Reason::NoResult { fault } => json!({ "fault": fault.as_str() }),
        Reason::Escalated { job, cause } => json!({ "job": job.0, "cause": cause }),
        _ => json!({}),
    }
}

/// A record.
pub(crate) fn record(source: &Source, record: &Record) -> Value {
    let mut object = json!({
        "job": source.job.0,
        "child": source.child.0,
        "seq": record.seq.0,
        "stream": record.stream.as_str(),
        "time": record.time.to_string(),
        "node": source.location,
    });
    let (field, value) = match &record.body {
        Body::Value(_) | Body::Live(_) => {
            let bytes = record.body.bytes();
            value_of(&bytes)
                .map_or_else(|| ("base64", json!(BASE64.encode(&bytes))), |value| ("value", value))
        }
        Body::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => ("text", json!(text)),
            Err(_) => ("base64", json!(BASE64.encode(bytes))),
        },
    };
    if let Value::Object(fields) = &mut object {
        fields.insert(field.to_owned(), value);
    }
    object
}

/// A child that failed, at the end of a receive.
pub(crate) fn failure(failure: &Failure) -> Value {
    json!({
        "child": failure.child.0,
        "node": failure.location,
        "reason": reason(&failure.reason),
        "exit_code": failure.exit_code,
    })
}

/// A node.
pub(crate) fn node(view: &NodeView) -> Value {
    let labels: Map<String, Value> =
        view.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "name": view.name.as_str(),
        "id": view.id.to_string(),
        "address": view.address,
        "state": view.state.as_str(),
        "labels": labels,
        "version": view.version,
        "running": view.running,
        "is_self": view.is_self,
    })
}

/// What a start would do.
pub(crate) fn plan(plan: &Plan) -> Value {
    let names = |nodes: &[sortie_model::NodeName]| -> Vec<String> {
        nodes.iter().map(ToString::to_string).collect()
    };
    json!({
        "nodes": names(&plan.nodes),
        "unreachable": names(&plan.unreachable),
        "children": plan.children,
    })
}

/// One screen about a job.
pub(crate) fn explanation(explanation: &Explanation) -> Value {
    let history: Vec<Value> = explanation
        .history
        .iter()
        .map(|(state, time)| json!({ "state": state.as_json(), "time": time.to_string() }))
        .collect();
    let children: Vec<Value> = explanation.children.iter().map(explained_child).collect();
    json!({
        "schema": SCHEMA,
        "job": job(&explanation.job),
        "children": children,
        "history": history,
        "because": explanation.because,
        "next": explanation.next,
    })
}

fn explained_child(explained: &ChildExplanation) -> Value {
    let mut object = child(&explained.child);
    let lines: Vec<String> = explained.last_errors.iter().map(|line| line_of_bytes(line)).collect();
    if let Value::Object(fields) = &mut object {
        fields.insert("last_errors".to_owned(), json!(lines));
    }
    object
}

/// Something that happened.
pub(crate) fn happening(happening: &Happening) -> Value {
    let time = happening.time.to_string();
    match &happening.event {
        Event::Accepted { job } => {
            json!({ "schema": SCHEMA, "time": time, "event": "accepted", "job": job.0 })
        }
        Event::Changed { id, job, incarnation, state, reason: why, question: asked, .. } => json!({
            "schema": SCHEMA,
            "time": time,
            "event": "changed",
            "id": id.0,
            "job": job.0,
            "incarnation": incarnation.0,
            "state": state.as_json(),
            "reason": why.as_ref().map(reason),
            "question": asked.as_ref().map(question),
        }),
        Event::Ended(notice) => json!({
            "schema": SCHEMA,
            "time": time,
            "event": "ended",
            "id": notice.id.0,
            "job": notice.job.0,
            "incarnation": notice.incarnation.0,
            "state": notice.state.map(|state| state.as_json()),
            "reason": notice.reason.as_ref().map(reason),
        }),
        Event::Removed { job } => {
            json!({ "schema": SCHEMA, "time": time, "event": "removed", "job": job.0 })
        }
        Event::Missed { count } => {
            json!({ "schema": SCHEMA, "time": time, "event": "missed", "count": count })
        }
    }
}

/// A selector or an entry that could not be served.
pub(crate) fn trouble(trouble: &Trouble) -> Value {
    json!({
        "about": trouble.about,
        "code": trouble.error.code.as_str(),
        "message": with_own_name(&trouble.error.message),
        "hint": trouble.error.hint.as_deref().map(with_own_name),
    })
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}
