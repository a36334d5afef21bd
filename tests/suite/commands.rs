//! The command line as people see it. `tests/cli/*.trycmd` holds commands and what they print; `TRYCMD=overwrite` writes it anew after a change that is
//! meant.

#[test]
fn commands_print_what_is_written_down() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd");
}
