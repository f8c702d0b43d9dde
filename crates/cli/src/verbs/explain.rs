//! `sortie explain`: one screen about a job or a child.

use sortie_model::selector::Selector;

use crate::args::ExplainArgs;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::render::out::print;
use crate::render::sheet::Format;
use crate::render::{explain, json, yaml};

pub(super) async fn run(args: ExplainArgs) -> Result<u8, Failure> {
    args.look.refuse_columns("explain")?;
    let selector: Selector = args.selector.parse().map_err(Failure::usage)?;
    let connection = Connection::open(&args.reach).await?;
    let explanation = connection.session().explain(selector).await?;
    connection.close().await;
    print(&match args.look.format() {
        Some(Format::Json | Format::Ndjson) => format!("{}\n", json::explanation(&explanation)),
        Some(Format::Yaml) => yaml::to_yaml(&json::explanation(&explanation)),
        _ if args.look.quiet => format!("{}\n", explanation.job.id),
        _ => explain::screen(&explanation),
    })?;
    Ok(0)
}
