"""Many runs: checked, started, supervised, reported."""
