module example.com/outside

go 1.26.0

require attnbench v0.0.0

replace attnbench => ../../../..
