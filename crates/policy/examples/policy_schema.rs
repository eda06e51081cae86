//! Prints the JSON Schema of policy documents: `cargo run -p policy --example policy_schema > docs/policy.schema.json`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(policy::json_schema().as_bytes())
}
