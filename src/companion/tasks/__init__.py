"""What the policies are trained and evaluated on."""
