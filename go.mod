module github.com/wiber/wiber

go 1.26.0
