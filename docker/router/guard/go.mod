module perennial.local/guard

go 1.19
