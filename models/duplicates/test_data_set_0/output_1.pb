B
score_copyJ(Dδ•*Dαί&D