B
score_copyJÄ 'D‘'Dê—%D“‚(Dš¢'D