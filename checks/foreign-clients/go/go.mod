module doorbell.example/checks

go 1.24
