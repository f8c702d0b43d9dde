//! `sortie tree`: session, jobs, children.

use serde_json::{Value, json};
use sortie::Session;
use sortie_model::SessionView;
use sortie_model::selector::Query;
use sortie_model::view::EntryView;

use crate::args::TreeArgs;
use crate::connect::Connection;
use crate::exit::{Cause, Failures, Rule};
use crate::failure::Failure;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::tree::{Branch, CHILDREN_DRAWN, draw};
use crate::render::{json as shapes, sessions, yaml};
use crate::verbs::{Nothing, only, report_troubles};

/// Jobs that are drawn, the newest ones.
const JOBS_DRAWN: u32 = 100;

pub(super) async fn run(args: TreeArgs) -> Result<u8, Failure> {
    let selection = args.pick.selection()?;
    let connection = Connection::open(&args.reach).await?;
    let view = session_view(&connection).await?;
    let session = connection.session();
    let query = Query { selection, newest: Some(JOBS_DRAWN), ..Query::default() };
    let entries = session.get(query).await?;
    let mut branches = Vec::new();
    for entry in &entries.entries {
        if let EntryView::Job(job) = entry {
            branches.extend(branch(&session, job).await?);
        }
    }
    connection.close().await;
    // A tree of nothing but trouble is none.
    let only_trouble = branches.is_empty() && !entries.troubles.is_empty();
    match args.look.format() {
        Some(Format::Json | Format::Ndjson) => {
            print(&format!("{}\n", document(&view, &branches)))?;
        }
        Some(Format::Yaml) => print(&yaml::to_yaml(&document(&view, &branches)))?,
        _ if only_trouble => {}
        _ => print(&draw(&view, &branches))?,
    }
    let outcome = report_troubles(&entries, Nothing::Fails, &args.look);
    Ok(outcome.status(Rule::Table, Failures::Count))
}

async fn session_view(connection: &Connection) -> Result<SessionView, Failure> {
    let name = connection.session_name();
    let sessions = connection.client().sessions().await?;
    let found = sessions.into_iter().find(|session| session.is_called(name));
    let missing = || {
        Failure::new(Cause::NotFound, "no_session", format_args!("no session is called `{name}`"))
            .hint("`sortie session get` lists them")
    };
    found.ok_or_else(missing)
}

async fn branch(session: &Session, job: &sortie_model::JobView) -> Result<Option<Branch>, Failure> {
    let query = Query {
        selection: only(job),
        children: true,
        limit: CHILDREN_DRAWN + 1,
        ..Query::default()
    };
    let mut newest = None;
    let mut children = Vec::new();
    for entry in session.get(query).await?.entries {
        match entry {
            EntryView::Job(job) => newest = Some(job),
            EntryView::Child(child) => children.push(child),
        }
    }
    // A job that was removed meanwhile has no branch.
    Ok(newest.map(|job| Branch { job, children }))
}

fn document(session: &SessionView, branches: &[Branch]) -> Value {
    let jobs: Vec<Value> = branches
        .iter()
        .map(|branch| {
            let children: Vec<Value> = branch.children.iter().map(shapes::child).collect();
            json!({ "job": shapes::job(&branch.job), "children": children })
        })
        .collect();
    json!({ "schema": shapes::SCHEMA, "session": sessions::session(session), "jobs": jobs })
}
