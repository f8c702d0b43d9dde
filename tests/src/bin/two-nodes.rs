//! Two nodes in one program. Each line of its input ends the next one, and is answered by one of
//! output. With an argument it becomes ready too late to host processes, and tries to run one.

use std::error::Error;
use std::io::BufRead as _;

use sortie::{Command, Node};

fn main() -> Result<(), Box<dyn Error>> {
    let late = std::env::args().nth(1).is_some();
    if !late {
        sortie::init();
    }
    tokio::runtime::Runtime::new()?.block_on(async {
        if late {
            sortie::init();
        }
        let first = Node::builder("first").start().await?;
        let second = Node::builder("second").join(&first).start().await?;
        if late {
            first.session().job(Command::new("true")).start().await?;
        }
        println!("ready");
        let mut lines = std::io::stdin().lock().lines();
        for node in [second, first] {
            let Some(line) = lines.next() else { return Ok(()) };
            line?;
            node.shut_down().await;
            println!("ended");
        }
        lines.next();
        Ok(())
    })
}
