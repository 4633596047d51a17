module perennial.local/bucket

go 1.19
